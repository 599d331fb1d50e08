// The decisions of NMS, for both devices; compiled without contraction.
#pragma once

#include "core/box.h"

namespace leyolo {

// torchvision compares its float32 IoU with a double. For a float `iou`, iou > double(threshold) is the same as
// iou > the largest float at or below the threshold.
inline float nms_threshold(double threshold) {
  float const f = float(threshold);
  return double(f) <= threshold ? f : __builtin_nextafterf(f, -__builtin_inff());
}

// Whether a kept box suppresses a later one of its class. A NaN IoU (two empty boxes, NaN corners) suppresses nothing.
template <class T>
LEYOLO_HD bool suppresses(Box<T> const& kept, Box<T> const& other, T threshold) {
  return iou(kept, other) > threshold;
}

}  // namespace leyolo

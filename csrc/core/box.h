// Boxes and the decisions taken on them, for both devices. Files that include this are compiled without contraction
// into fused multiply-adds (-ffp-contract=off, --fmad=false), else the twins would disagree in the last bit.
#pragma once

#include "core/math.h"

namespace leyolo {

template <class T>
struct Box {
  T x1, y1, x2, y2;
};

template <class T, class S>
LEYOLO_HD Box<T> load_box(S const* p) {
  return {T(p[0]), T(p[1]), T(p[2]), T(p[3])};
}

template <class T>
LEYOLO_HD T area(Box<T> const& b) {
  return (b.x2 - b.x1) * (b.y2 - b.y1);
}

template <class T>
LEYOLO_HD T intersection(Box<T> const& a, Box<T> const& b) {
  T const w = max_of(T(0), min_of(a.x2, b.x2) - max_of(a.x1, b.x1));
  T const h = max_of(T(0), min_of(a.y2, b.y2) - max_of(a.y1, b.y1));
  return w * h;
}

// NaN where both boxes are empty (0 / 0), as in torchvision.
template <class T>
LEYOLO_HD T iou(Box<T> const& a, Box<T> const& b) {
  T const inter = intersection(a, b);
  return inter / (area(a) + area(b) - inter);
}

}  // namespace leyolo

// The names that the bindings pass for kind and format.
#pragma once

#include "core/check.h"
#include "ops/box_iou/box_iou_math.h"

namespace leyolo {

inline BoxIou box_iou_kind(std::string const& name) {
  constexpr char const* names[] = {"iou", "generalized", "distance", "complete"};
  for (int i = 0; i < 4; ++i)
    if (name == names[i]) return BoxIou(i);
  fail("box_iou: kind must be iou, generalized, distance or complete, got '", name, "'");
}

inline BoxFormat box_format(std::string const& name) {
  constexpr char const* names[] = {"xyxy", "xywh", "cxcywh"};
  for (int i = 0; i < 3; ++i)
    if (name == names[i]) return BoxFormat(i);
  fail("boxes: fmt must be xyxy, xywh or cxcywh, got '", name, "'");
}

}  // namespace leyolo

// Shared with box_iou_loss.exact.simd.cpp, hence no standard header.
#pragma once

#include "ops/box_iou/box_iou_args.h"

namespace leyolo {

// `count` pairs of boxes, at most kIouColumns; planes are readable up to the next multiple of 16.
template <class A>
struct IouLossArgs {
  IouTile<A> const *first, *second;
  int count;
  BoxIou kind;
  A eps;
  A* out;                                       // [count], or null
  A const* g;                                   // [count], where a gradient is wanted
  IouTile<A>*first_gradient, *second_gradient;  // or null
};

}  // namespace leyolo

// Shared with box_iou.exact.simd.cpp, hence no standard header.
#pragma once

#include "ops/box_iou/box_iou_math.h"

namespace leyolo {

// Boxes are taken in pieces of this size: prepared once, used by a whole piece of partners. Long rows of results are
// written fastest, and the planes of a piece still fit into L1.
constexpr int kIouRows = 64, kIouColumns = 1024;
constexpr int kIouPad = 16;  // values that may be read behind the last box

template <class A>
struct IouTile {
  A plane[kIouPlanes][kIouColumns + kIouPad];  // the fields of IouBox
};

// `rows` boxes against the `columns` boxes of a tile; out and g point at the pair (0, 0) of a matrix with rows of
// `pitch`.
template <class A>
struct IouArgs {
  IouBox<A> const* row;
  IouTile<A> const* tile;
  int rows, columns;
  long long pitch;
  BoxIou kind;
  A eps;
  A* out;
  A const* g;
  IouBox<A>* row_gradient;      // [rows], added to; or null
  IouTile<A>* column_gradient;  // added to; or null
  bool past_caches;             // `out` is larger than they are: written to memory directly
};

}  // namespace leyolo

// Filling and reading tiles, for the CPU twins.
#pragma once

#include <algorithm>

#include "ops/box_iou/box_iou_args.h"

namespace leyolo {

template <class A>
IouBox<A> box_at(IouTile<A> const& t, int j) {
  return {t.plane[0][j], t.plane[1][j], t.plane[2][j], t.plane[3][j],
          t.plane[4][j], t.plane[5][j], t.plane[6][j], t.plane[7][j]};
}

template <class A>
void put_box(IouTile<A>& t, int j, IouBox<A> const& b) {
  A const fields[] = {b.x1, b.y1, b.x2, b.y2, b.area, b.cx, b.cy, b.angle};
  for (int p = 0; p < kIouPlanes; ++p) t.plane[p][j] = fields[p];
}

template <class A, class T>
void fill_tile(IouTile<A>& tile, T const* boxes, int count, BoxFormat format, BoxIou kind) {
  for (int j = 0; j < count; ++j) put_box(tile, j, iou_box<A>(boxes + 4 * j, format, kind));
  // Behind them is the last box again: no NaN that is not there.
  for (int j = count; j < count + kIouPad; ++j) put_box(tile, j, box_at(tile, count - 1));
}

}  // namespace leyolo

// Without contraction: the same losses on every instruction set, and as torch rounds them.
#include "core/simd.h"
#include "ops/box_iou_loss/box_iou_loss_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

LEYOLO_INLINE IouBox<vf> boxes_at(IouTile<float> const& t, int j) {
  return {load(t.plane[0] + j), load(t.plane[1] + j), load(t.plane[2] + j), load(t.plane[3] + j),
          load(t.plane[4] + j), load(t.plane[5] + j), load(t.plane[6] + j), load(t.plane[7] + j)};
}
LEYOLO_INLINE void put(IouTile<float>& t, int j, IouBox<vf> const& b) {
  vf const fields[kIouPlanes] = {b.x1, b.y1, b.x2, b.y2, b.area, b.cx, b.cy, b.angle};
  for (int p = 0; p < kIouPlanes; ++p) store(t.plane[p] + j, fields[p]);
}

template <BoxIou kind>
LEYOLO_INLINE void losses(IouLossArgs<float> const& a) {
  for (int j = 0; j < a.count; j += kLanes) {
    int const lanes = a.count - j < kLanes ? a.count - j : kLanes;
    IouBox<vf> const first = boxes_at(*a.first, j), second = boxes_at(*a.second, j);
    IouPair<kind, true, vf, float> pair;
    vf const loss = 1.0f - pair.score(first, second, a.eps);
    if (a.out) store_part(a.out + j, loss, lanes);
    if (!a.g) continue;
    vf const g = -load_part(a.g + j, lanes);
    if (a.first_gradient) put(*a.first_gradient, j, pair.gradient(first, second, a.eps, g));
    if (a.second_gradient) {
      pair.score(second, first, a.eps);
      put(*a.second_gradient, j, pair.gradient(second, first, a.eps, g));
    }
  }
}

}  // namespace

extern void box_iou_losses(IouLossArgs<float> const& a) {
  switch (a.kind) {
    case BoxIou::generalized: return losses<BoxIou::generalized>(a);
    case BoxIou::distance: return losses<BoxIou::distance>(a);
    default: return losses<BoxIou::complete>(a);
  }
}

}  // namespace leyolo::LEYOLO_ISA

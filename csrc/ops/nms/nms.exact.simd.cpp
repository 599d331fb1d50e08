// The sweep of greedy NMS: a vector of candidates stays in registers while the boxes kept so far pass over it. Compiled
// without contraction: the same decisions as nms_math.h, on every instruction set.
#include "core/simd.h"
#include "ops/nms/nms_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

struct Boxes {
  vf x1, y1, x2, y2, area;
};

// Lanes that the box suppresses, as all-ones. The order of operands is that of core/box.h, for NaN's sake.
LEYOLO_INLINE vi suppressed(Boxes const& c, float x1, float y1, float x2, float y2, float area, vf threshold,
                            bool touching_only) {
  vf const zero{};
  vf const dx = min_of(splat(x2), c.x2) - max_of(splat(x1), c.x1),
           dy = min_of(splat(y2), c.y2) - max_of(splat(y1), c.y1);
  vf const w = max_of(zero, dx), h = max_of(zero, dy);
  // Most pairs do not touch: an IoU of 0 (or NaN) is not above a threshold of 0 or more.
  if (touching_only && !any((w > zero) & (h > zero))) return vi{};
  vf const inter = w * h;
  return inter / (splat(area) + c.area - inter) > threshold;
}

}  // namespace

extern long long nms_sweep(NmsArgs const& a) {
  vf const threshold = splat(a.threshold);
  bool const touching_only = a.threshold >= 0;
  long long kept = 0;
  for (long long first = 0; first < a.count && kept < a.most; first += kLanes) {
    int const lanes = a.count - first < kLanes ? static_cast<int>(a.count - first) : kLanes;
    Boxes const c{load_part(a.x1 + first, lanes), load_part(a.y1 + first, lanes), load_part(a.x2 + first, lanes),
                  load_part(a.y2 + first, lanes), load_part(a.area + first, lanes)};
    vi dead = ~first_lanes(lanes);
    for (long long k = 0; k < kept && any(~dead); ++k)
      dead |= suppressed(c, a.kept_x1[k], a.kept_y1[k], a.kept_x2[k], a.kept_y2[k], a.kept_area[k], threshold,
                         touching_only);
    for (int lane = 0; lane < lanes && kept < a.most; ++lane) {
      if (dead[lane]) continue;
      a.kept_x1[kept] = a.x1[first + lane], a.kept_y1[kept] = a.y1[first + lane];
      a.kept_x2[kept] = a.x2[first + lane], a.kept_y2[kept] = a.y2[first + lane];
      a.kept_area[kept] = a.area[first + lane];
      dead |= suppressed(c, a.kept_x1[kept], a.kept_y1[kept], a.kept_x2[kept], a.kept_y2[kept], a.kept_area[kept],
                         threshold, touching_only);
      a.kept[kept++] = first + lane;
    }
  }
  return kept;
}

}  // namespace leyolo::LEYOLO_ISA

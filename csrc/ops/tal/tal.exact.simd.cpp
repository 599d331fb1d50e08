#include "core/exact_simd.h"
#include "ops/tal/tal_args.h"

namespace leyolo::LEYOLO_ISA {

extern long long tal_row(TalRowArgs const& a) {
  AreaBox<vf> const target = box_in_all_lanes(a.targets, a.target);
  vf const angle = splat(a.targets[kAngle][a.target]);
  long long count = 0;
  for (long long j = 0; j < a.size; j += kLanes) {
    unsigned bits = bits_of(in_box(load(a.x + j), load(a.y + j), target, kTalMargin));
    if (!bits) continue;
    float overlaps[kLanes];
    store(overlaps, tal_overlap(target, angle, boxes_at(a.boxes, j), load(a.boxes[kAngle] + j)));
    for (; bits; bits &= bits - 1) {
      int const l = __builtin_ctz(bits);
      if (j + l >= a.size) break;
      a.anchors[count] = int(j + l);
      a.overlaps[count++] = overlaps[l];
    }
  }
  return count;
}

extern void tal_column(TalColumnArgs const& a) {
  AreaBox<vf> const box = box_in_all_lanes(a.boxes, a.anchor);
  vf const angle = splat(a.boxes[kAngle][a.anchor]), x = splat(a.x), y = splat(a.y);
  for (long long g = 0; g < a.size; g += kLanes) {
    AreaBox<vf> const targets = boxes_at(a.targets, g);
    vf const overlap = tal_overlap(targets, load(a.targets[kAngle] + g), box, angle);
    store(a.overlaps + g, in_box(x, y, targets, kTalMargin) ? overlap : vf{});
  }
}

extern void tal_metrics(TalMetricArgs const& a) {
  for (long long i = 0; i < a.size; i += kLanes)
    store(a.metrics + i, -tal_metric(load(a.scores + i), load(a.overlaps + i), a.alpha, a.beta));
}

}  // namespace leyolo::LEYOLO_ISA

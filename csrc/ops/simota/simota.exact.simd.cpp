#include "core/exact_simd.h"
#include "ops/simota/simota_args.h"

namespace leyolo::LEYOLO_ISA {

extern void simota_mask(SimotaMaskArgs const& a) {
  for (long long i = a.begin; i < a.end; i += kLanes) {
    vf const x = load(a.x + i), y = load(a.y + i), radius = load(a.radius + i);
    vi any{};
    for (long long g = 0; g < a.target_count; ++g)
      any |= simota_candidate(x, y, radius, box_in_all_lanes(a.targets, g), splat(a.targets[kCenterX][g]),
                              splat(a.targets[kCenterY][g]), a.inside != 0);
    for (int l = 0; l < kLanes; ++l) a.mask[i + l] = any[l] != 0;
  }
}

// Sixteen running sums whatever the vector length, so that every instruction set (and the GPU) adds in the same order.
extern void simota_class_sum(SimotaSumArgs& a) {
  constexpr int kParts = 16 / kLanes;
  CompensatedSum<vf> sums[kParts] = {};
  vf const objectness = splat(a.objectness);
  for (long long c = 0; c < a.classes; c += 16)
    for (int part = 0; part < kParts; ++part) {
      long long const at = c + part * kLanes;
      vf logits = splat(-__builtin_inff());  // adds 0
      if (at + kLanes <= a.classes)
        logits = load(a.logits + at);
      else
        for (int l = 0; l < kLanes; ++l)
          if (at + l < a.classes) logits[l] = a.logits[at + l];
      sums[part].add(simota_class_term(logits, objectness, a.with_objectness != 0));
    }
  double total = 0;
  for (int i = 0; i < 16; ++i)
    total += double(sums[i / kLanes].sum[i % kLanes]) + double(sums[i / kLanes].lost[i % kLanes]);
  a.sum = float(total);
  a.sum_low = float(total - double(a.sum));
}

extern void simota_differences(SimotaDifferenceArgs const& a) {
  bool const with = a.objectness != nullptr;
  for (long long i = 0; i < a.size; i += kLanes) {
    vf const objectness = with ? load(a.objectness + i) : vf{};
    store(a.values + i, class_difference(class_probability(load(a.values + i), objectness, with)));
  }
}

extern void simota_row(SimotaPairArgs const& a) {
  AreaBox<vf> const target = box_in_all_lanes(a.targets, a.index);
  vf const cx = splat(a.targets[kCenterX][a.index]), cy = splat(a.targets[kCenterY][a.index]);
  for (long long i = 0; i < a.size; i += kLanes) {
    vf const iou = overlap_iou(target, boxes_at(a.candidates, i));
    vi const related = simota_related(load(a.candidates[kCenterX] + i), load(a.candidates[kCenterY] + i),
                                      load(a.candidates[kRadius] + i), target, cx, cy, a.rule.inside != 0);
    if (a.iou) store(a.iou + i, iou);
    store(a.cost + i, simota_pair_cost(load(a.candidates[kClassSum] + i), load(a.candidates[kClassSumLow] + i),
                                       load(a.differences + i), iou, related, a.rule));
  }
}

extern void simota_column(SimotaPairArgs const& a) {
  AreaBox<vf> const box = box_in_all_lanes(a.candidates, a.index);
  vf const x = splat(a.candidates[kCenterX][a.index]), y = splat(a.candidates[kCenterY][a.index]);
  vf const radius = splat(a.candidates[kRadius][a.index]);
  vf const sum = splat(a.candidates[kClassSum][a.index]), low = splat(a.candidates[kClassSumLow][a.index]);
  for (long long g = 0; g < a.size; g += kLanes) {
    AreaBox<vf> const targets = boxes_at(a.targets, g);
    vi const related = simota_related(x, y, radius, targets, load(a.targets[kCenterX] + g),
                                      load(a.targets[kCenterY] + g), a.rule.inside != 0);
    store(a.cost + g, simota_pair_cost(sum, low, load(a.differences + g), overlap_iou(targets, box), related, a.rule));
  }
}

}  // namespace leyolo::LEYOLO_ISA

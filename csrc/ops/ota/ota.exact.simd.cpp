#include "core/exact_simd.h"
#include "ops/ota/ota_args.h"

namespace leyolo::LEYOLO_ISA {
namespace {

constexpr int kParts = 16 / kLanes;

// Sixteen running sums whatever the vector length: every instruction set adds in the same order.
LEYOLO_INLINE double total(vf const (&sums)[kParts]) {
  double sum = 0;
  for (int i = 0; i < 16; ++i) sum += double(sums[i / kLanes][i % kLanes]);
  return sum;
}

// Largest v - cost of a supplier over the anchors; the rest of the last vector does not count.
LEYOLO_INLINE float best_of_row(OtaTransport const& a, long long i) {
  float const* const cost = a.cost + i * a.pitch;
  vf most = splat(-__builtin_inff());
  long long j = 0;
  for (; j + kLanes <= a.anchors; j += kLanes) most = max_of(most, load(a.v + j) - load(cost + j));
  float best = -__builtin_inff();
  for (int l = 0; l < kLanes; ++l) best = best < most[l] ? most[l] : best;
  for (; j < a.anchors; ++j) best = best < a.v[j] - cost[j] ? a.v[j] - cost[j] : best;
  return best;
}

}  // namespace

extern float ota_class_sum(float const* logits, long long classes) {
  vf sums[kParts] = {};
  for (long long c = 0; c < classes; c += 16)
    for (int part = 0; part < kParts; ++part) {
      long long const at = c + part * kLanes;
      vf x = splat(-1000.0f);  // adds 0
      if (at + kLanes <= classes)
        x = load(logits + at);
      else
        for (int l = 0; l < kLanes; ++l)
          if (at + l < classes) x[l] = logits[at + l];
      sums[part] += focal_negative(x);
    }
  return float(total(sums));
}

extern void ota_costs(OtaCostArgs const& a) {
  AreaBox<vf> const target = box_in_all_lanes(a.targets, a.target);
  vf const cx = splat(a.targets[kCenterX][a.target]), cy = splat(a.targets[kCenterY][a.target]);
  for (long long j = 0; j < a.size; j += kLanes) {
    vf const iou = overlap_iou(target, boxes_at(a.boxes, j));
    vi const central = ota_central(load(a.x + j), load(a.y + j), load(a.radius + j), target, cx, cy);
    store(a.cost + j, ota_pair_cost(load(a.sum + j), focal_difference(load(a.logits + j)), iou, central));
    store(a.negative_iou + j, central ? -iou : vf{});
  }
}

// v of anchors [begin, end), multiples of kPad: every anchor demands 1.
extern void ota_columns(OtaTransport const& a, long long begin, long long end) {
  for (long long j = begin; j < end; j += kLanes) {
    vf most = splat(-__builtin_inff());
    for (long long i = 0; i < a.suppliers; ++i) most = max_of(most, splat(a.u[i]) - load(a.cost + i * a.pitch + j));
    vf sum{};
    for (long long i = 0; i < a.suppliers; ++i)
      sum += exp_exact(((splat(a.u[i]) - load(a.cost + i * a.pitch + j)) - most) * a.scale);
    store(a.v + j, -(most + log_exact(sum) * a.eps));
  }
}

// u of supplier i.
extern void ota_row(OtaTransport const& a, long long i) {
  float const* const cost = a.cost + i * a.pitch;
  float const best = best_of_row(a, i);
  vf const most = splat(best);
  vf sums[kParts] = {};
  for (long long j = 0; j < a.anchors; j += 16)
    for (int part = 0; part < kParts; ++part) {
      long long const at = j + part * kLanes;
      vf term = exp_exact(((load(a.v + at) - load(cost + at)) - most) * a.scale);
      for (int l = 0; at + kLanes > a.anchors && l < kLanes; ++l)
        if (at + l >= a.anchors) term[l] = 0;
      sums[part] += term;
    }
  a.u[i] = a.eps * (a.log_mu[i] - log_exact(float(total(sums)))) - best;
}

extern void ota_row_best(OtaTransport const& a, long long i) { a.row_best[i] = best_of_row(a, i); }

// owner[j] = the supplier of the largest share of its own maximum, for j in [begin, end), multiples of kPad.
extern void ota_owners(OtaTransport const& a, long long begin, long long end, int* owner) {
  for (long long j = begin; j < end; j += kLanes) {
    vf const v = load(a.v + j);
    vf most = splat(-__builtin_inff());
    vi who{};
    for (long long i = 0; i < a.suppliers; ++i) {
      vf const share = (v - load(a.cost + i * a.pitch + j)) - splat(a.row_best[i]);
      vi const better = share > most;
      most = better ? share : most;
      who = better ? vi{} + int(i) : who;
    }
    for (int l = 0; l < kLanes; ++l) owner[j + l] = who[l];
  }
}

}  // namespace leyolo::LEYOLO_ISA

// OTA's geometry and cost; V is float or a vector of floats. Compiled without contraction on every device.
#pragma once

#include "core/assignment_math.h"

namespace leyolo {

// Fields of an anchor: its predicted box, and in place of the box's centre that of the anchor.
enum OtaField { kOtaRadius = kBoxFields, kOtaFields };

constexpr float kOtaMargin = 0.01f, kOtaRadii = 2.5f, kOtaIouWeight = 1.5f, kOtaLeastIou = 0x1p-23f;
constexpr float kFocalAlpha = 0.25f;
constexpr double kOtaPenalty = 1e6;
constexpr double kOtaVanished = 1e-30;  // a row's share of all columns below which it is looked at by itself
constexpr float kNegligible = -87.0f;   // e to this is next to nothing, and below it come subnormals

template <class V>
LEYOLO_HD auto ota_related(V x, V y, V radius, AreaBox<V> const& target, V cx, V cy) {
  return in_box(x, y, target, kOtaMargin) & in_square(x, y, cx, cy, radius);
}

template <class V>
struct Focal {
  V positive, negative;  // the loss of one class where it is the target and where it is not
};

// Alpha 0.25, gamma 2 (Lin et al., arXiv:1708.02002). The logarithms come from the logit, so that they stay precise
// where the probability is next to 0 or 1.
template <class V>
LEYOLO_HD Focal<V> focal(V x) {
  V const p = sigmoid_exact(x), q = sigmoid_exact(-x);
  V const small = log_exact(1.0f + exp_exact(x < 0.0f ? x : -x));
  V const minus_log_p = (x < 0.0f ? -x : V{}) + small, minus_log_q = (x < 0.0f ? V{} : x) + small;
  return {kFocalAlpha * (q * q * minus_log_p), (1.0f - kFocalAlpha) * (p * p * minus_log_q)};
}

// Costs are kept divided by eps, as magnitudes: the sign bit says that the penalty comes on top. The penalty itself is
// added to the row's potential, in double precision: within a float it would swallow the rest.
template <class V, class M>
LEYOLO_HD V ota_pack(V cost, M related) {
  using I = integers_of<V>;
  I const bits = __builtin_bit_cast(I, cost) & 0x7fffffff;
  return __builtin_bit_cast(V, related ? bits : bits | int(0x80000000));
}

// `near` (related) or `far` (penalised) potential of the row less the cost.
template <class V>
LEYOLO_HD V ota_gain(V packed, V near, V far) {
  using I = integers_of<V>;
  I const bits = __builtin_bit_cast(I, packed);
  return (bits < 0 ? far : near) - __builtin_bit_cast(V, bits & 0x7fffffff);
}

// A row's largest v - cost, and the potentials that bring it to 0, to the bit: rows that are largest at the same anchor
// tie there, and rounding must not choose between them.
struct OtaTop {
  double value;
  float near, far;
};

// Of the largest v - cost among related and among penalised anchors, both without the penalty.
LEYOLO_HD OtaTop ota_top(float near, float far, double penalty) {
  double const related = near, penalised = double(far) - penalty;
  if (penalised > related) return {penalised, float(-penalised), -far};
  return {related, -near, float(-related - penalty)};
}

// How far v - cost is below the largest of its row, with the potentials of ota_top.
template <class V>
LEYOLO_HD V ota_below_top(V packed, V v, V near, V far) {
  return ota_gain(packed, v, v) + (__builtin_bit_cast(integers_of<V>, packed) < 0 ? far : near);
}

// The unpenalised cost of a pair; `sum` of the negative losses of all classes, `f` of the ground truth's class.
// Infinite where a probability is NaN.
template <class V>
LEYOLO_HD V ota_pair_cost(V sum, Focal<V> const& f, V iou, float scale) {
  V const cls = (sum - f.negative) + f.positive;
  V const clipped = iou > kOtaLeastIou ? iou : all<V>(kOtaLeastIou);
  V const cost = (cls + kOtaIouWeight * -log_exact(clipped)) * scale;
  V const least = cost < 0.0f ? V{} : cost;
  return least == least ? least : all<V>(__builtin_inff());
}

LEYOLO_HD float ota_log_supply(long long supply) { return log_exact(float(double(supply) + 1e-8)); }

}  // namespace leyolo

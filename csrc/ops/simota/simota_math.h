// SimOTA's geometry and cost; V is float or a vector of floats. Compiled without contraction on every device.
#pragma once

#include "core/assignment_math.h"

namespace leyolo {

// Fields of a candidate: its predicted box, and in place of the box's centre that of its anchor.
enum CandidateField { kRadius = kBoxFields, kObjectness, kClassSum, kClassSumLow, kCandidateFields };

struct SimotaCost {
  float iou_weight, cls_weight;
  float penalty;  // where the anchor is not related to the ground truth
  int inside;     // rule v030: related means inside the box as well
};

// p = sqrt(sigmoid(class) * sigmoid(objectness)); `objectness` is already a probability, absent: p = sigmoid(class).
template <class V>
LEYOLO_HD V class_probability(V logit, V objectness, bool with_objectness) {
  V const p = sigmoid_exact(logit);
  return with_objectness ? square_root(p * objectness) : p;
}

// max(log(x), -100); NaN stays.
template <class V>
LEYOLO_HD V clamped_log(V x) {
  V const l = log_exact(x);
  return l < -100.0f ? all<V>(-100.0f) : l;
}

// The sum of -log(1 - p) over all classes plus this is the cross entropy against one class as the target.
template <class V>
LEYOLO_HD V class_difference(V p) {
  return clamped_log(1.0f - p) - clamped_log(p);
}

// -log(1 - p), what a class adds to a candidate's sum.
template <class V>
LEYOLO_HD V simota_class_term(V logit, V objectness, bool with_objectness) {
  return -clamped_log(1.0f - class_probability(logit, objectness, with_objectness));
}

template <class V>
LEYOLO_HD auto simota_candidate(V x, V y, V radius, AreaBox<V> const& target, V cx, V cy, bool inside) {
  auto const near = in_square(x, y, cx, cy, radius);
  return inside ? near | in_box(x, y, target, 0.0f) : near;
}

template <class V>
LEYOLO_HD auto simota_related(V x, V y, V radius, AreaBox<V> const& target, V cx, V cy, bool inside) {
  auto const near = in_square(x, y, cx, cy, radius);
  return inside ? near & in_box(x, y, target, 0.0f) : near;
}

// Infinity where a probability is NaN: never matched. The sum comes in two parts since a term of 100 may cancel.
template <class V, class M>
LEYOLO_HD V simota_pair_cost(V sum, V sum_low, V difference, V iou, M related, SimotaCost const& p) {
  V const cls = (sum + difference) + sum_low;
  V const cost = p.cls_weight * cls + p.iou_weight * -log_exact(iou + 1e-8f);
  V const total = cost + (related ? V{} : all<V>(p.penalty));
  return total == total ? total : all<V>(__builtin_inff());
}

}  // namespace leyolo

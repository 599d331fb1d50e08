// OTA's cost; V is float or a vector of floats. Compiled without contraction on every device.
#pragma once

#include "core/assignment_math.h"

namespace leyolo {

constexpr float kOtaRadius = 2.5f;             // half side of the square around a centre, in strides
constexpr float kOtaMargin = 0.01f;            // pixels that an anchor's centre must lie inside the box
constexpr float kOtaWeight = 1.5f;             // of -log(iou)
constexpr float kOtaPenalty = 1e6f;            // off the centre
constexpr float kOtaSmallest = 1.1920929e-7f;  // IoUs below count as this
constexpr float kFocalAlpha = 0.25f;           // Lin et al., arXiv:1708.02002, with gamma = 2

template <class V>
LEYOLO_HD V softplus_exact(V x) {
  return max_of(x, V{}) + log_exact(1.0f + exp_exact(x < 0.0f ? x : -x));
}

// Focal loss of a logit whose class is absent.
template <class V>
LEYOLO_HD V focal_negative(V x) {
  V const p = sigmoid_exact(x);
  return (1.0f - kFocalAlpha) * (p * p) * softplus_exact(x);
}

// The sum of focal_negative over all classes plus this is the loss against one class as the target.
template <class V>
LEYOLO_HD V focal_difference(V x) {
  V const q = sigmoid_exact(-x);
  return kFocalAlpha * (q * q) * softplus_exact(-x) - focal_negative(x);
}

template <class V>
LEYOLO_HD auto ota_central(V x, V y, V radius, AreaBox<V> const& target, V cx, V cy) {
  return in_square(x, y, cx, cy, radius) & in_box(x, y, target, kOtaMargin);
}

template <class V, class M>
LEYOLO_HD V ota_pair_cost(V sum, V difference, V iou, M central) {
  V const cost = (sum + difference) + kOtaWeight * -log_exact(max_of(iou, all<V>(kOtaSmallest)));
  return cost + (central ? V{} : all<V>(kOtaPenalty));
}

}  // namespace leyolo

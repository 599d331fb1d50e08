// TAL's overlap and metric; V is float or a vector of floats. Compiled without contraction on every device.
#pragma once

#include "core/assignment_math.h"

namespace leyolo {

constexpr int kAngle = kBoxFields;  // one more field: atan(width / height)
constexpr int kTalFields = kBoxFields + 1;
constexpr float kTalMargin = 1e-9f;  // how far inside a ground truth an anchor's centre must lie
constexpr float kTalEpsilon = 1e-7f;

// Heights carry an epsilon, widths do not.
template <class V>
LEYOLO_HD V box_angle(V x1, V y1, V x2, V y2) {
  return atan_exact((x2 - x1) / ((y2 - y1) + kTalEpsilon));
}

// Complete IoU of ground truth g and box p (Zheng et al., arXiv:1911.08287), 0 where it is negative or NaN.
template <class V>
LEYOLO_HD V tal_overlap(AreaBox<V> const& g, V g_angle, AreaBox<V> const& p, V p_angle) {
  V const gw = g.x2 - g.x1, gh = (g.y2 - g.y1) + kTalEpsilon, pw = p.x2 - p.x1, ph = (p.y2 - p.y1) + kTalEpsilon;
  V const w = max_of(V{}, min_of(g.x2, p.x2) - max_of(g.x1, p.x1));
  V const h = max_of(V{}, min_of(g.y2, p.y2) - max_of(g.y1, p.y1));
  V const inter = w * h;
  V const iou = inter / (((gw * gh + pw * ph) - inter) + kTalEpsilon);
  V const hull_w = max_of(g.x2, p.x2) - min_of(g.x1, p.x1), hull_h = max_of(g.y2, p.y2) - min_of(g.y1, p.y1);
  V const dx = p.x1 + p.x2 - g.x1 - g.x2, dy = p.y1 + p.y2 - g.y1 - g.y2;
  V const distance = (dx * dx + dy * dy) * 0.25f / ((hull_w * hull_w + hull_h * hull_h) + kTalEpsilon);
  V const angle = p_angle - g_angle;
  V const v = angle * angle * 0.405284735f;  // 4 / pi^2
  V const ciou = iou - (distance + v * v / ((v - iou) + (1.0f + kTalEpsilon)));
  return ciou > 0.0f ? ciou : V{};
}

template <class V>
LEYOLO_HD V tal_metric(V score, V overlap, float alpha, float beta) {
  return power_exact(score, alpha) * power_exact(overlap, beta);
}

}  // namespace leyolo

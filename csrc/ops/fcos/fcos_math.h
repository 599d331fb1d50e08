// FCOS's decision on an anchor and a ground truth; V is float or a vector of floats.
#pragma once

#include "core/assignment_math.h"

namespace leyolo {

constexpr int kFcosMostLevels = 64;

// Whether ground truth `t` may have the anchor: the largest of its distances to the four sides lies in [low, high].
template <class V>
LEYOLO_HD auto fcos_takes(V x, V y, V radius, V low, V high, AreaBox<V> const& t, V cx, V cy) {
  V const reach = max_of(max_of(x - t.x1, t.x2 - x), max_of(y - t.y1, t.y2 - y));
  return in_box(x, y, t, 0.0f) & in_square(x, y, cx, cy, radius) & (reach >= low) & (reach <= high);
}

}  // namespace leyolo

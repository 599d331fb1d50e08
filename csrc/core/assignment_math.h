// What the label assigners decide on a box, a ground truth and an anchor; V is float or a vector of floats. Compiled
// without contraction on every device, hence the same decisions everywhere.
#pragma once

#include "core/exact_math.h"

namespace leyolo {

// Boxes and ground truths as rows of one field each; row k starts at base + k * pitch.
struct Rows {
  float* base;
  long long pitch;

  LEYOLO_HD float* operator[](int field) const { return base + field * pitch; }
};

enum BoxField { kX1, kY1, kX2, kY2, kArea, kCenterX, kCenterY, kBoxFields };

// The area is that of the input format (w * h where it has w and h), and NaN if any coordinate is.
template <class V>
struct AreaBox {
  V x1, y1, x2, y2, area;
};

struct CenteredBox {
  AreaBox<float> box;
  float cx, cy;
};

// From four coordinates: corners (xyxy) or centre and size.
LEYOLO_HD CenteredBox centered_box(float a, float b, float c, float d, bool xyxy) {
  bool const nan = a != a || b != b || c != c || d != d;
  float const half_w = 0.5f * c, half_h = 0.5f * d;
  float const area = xyxy ? (c - a) * (d - b) : c * d;
  return {{xyxy ? a : a - half_w, xyxy ? b : b - half_h, xyxy ? c : a + half_w, xyxy ? d : b + half_h,
           nan ? __builtin_nanf("") : area},
          xyxy ? 0.5f * (a + c) : a,
          xyxy ? 0.5f * (b + d) : b};
}

// The whole part of a sum of overlaps, in [1, most] (`most` >= 1); NaN gives 1.
LEYOLO_HD long long whole_part(float sum, long long most) {
  if (!(sum >= 1.0f)) return 1;
  return sum < float(most) ? (long long)(sum) : most;
}

// 0 unless the boxes overlap on both axes; 0 also where NaN is in play or 0 is divided by 0.
template <class V>
LEYOLO_HD V overlap_iou(AreaBox<V> const& a, AreaBox<V> const& b) {
  V const w = min_of(a.x2, b.x2) - max_of(a.x1, b.x1), h = min_of(a.y2, b.y2) - max_of(a.y1, b.y1);
  V const inter = (w > 0.0f) & (h > 0.0f) ? w * h : V{};
  V const iou = inter / ((a.area + b.area) - inter);
  return iou == iou ? iou : V{};
}

// Strictly inside the square of half side `radius` around (cx, cy).
template <class V>
LEYOLO_HD auto in_square(V x, V y, V cx, V cy, V radius) {
  return (x - (cx - radius) > 0.0f) & ((cx + radius) - x > 0.0f) & (y - (cy - radius) > 0.0f) &
         ((cy + radius) - y > 0.0f);
}

// More than `margin` inside the box on every side.
template <class V>
LEYOLO_HD auto in_box(V x, V y, AreaBox<V> const& b, float margin) {
  return (x - b.x1 > margin) & (b.x2 - x > margin) & (y - b.y1 > margin) & (b.y2 - y > margin);
}

}  // namespace leyolo

// What NMS decides by; both devices compile it (without contraction, see core/box.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/box.h"

namespace leyolo {

// Ascending keys are descending scores: NaN first, and -0 ties with +0.
LEYOLO_HD uint64_t score_key(float score) {
  float const sum = score + 0.0f;  // -0 becomes +0
  uint32_t b;
  memcpy(&b, &sum, sizeof b);
  return score != score ? 0 : (b >> 31 ? b : ~b & 0x7fffffffu);
}
LEYOLO_HD uint64_t score_key(double score) {
  double const sum = score + 0.0;
  uint64_t b;
  memcpy(&b, &sum, sizeof b);
  return score != score ? 0 : (b >> 63 ? b : ~b & (~uint64_t(0) >> 1));
}

// iou > threshold in double, for a float iou, is iou > the largest float that is not above the threshold.
inline float nms_threshold(double threshold, float) {
  float const t = float(threshold);
  return double(t) > threshold ? std::nextafter(t, -std::numeric_limits<float>::infinity()) : t;
}
inline double nms_threshold(double threshold, double) { return threshold; }

template <class T>
LEYOLO_HD bool suppresses(Box<T> const& kept, Box<T> const& other, T threshold) {
  return iou(kept, other) > threshold;
}

// The same for known areas. The division is the slow part, and inter / all > t needs inter >= t * all where t >= 0
// (rounding is monotonic, so this holds for the rounded product too).
template <class T>
LEYOLO_HD bool suppresses(Box<T> const& kept, T kept_area, Box<T> const& other, T other_area, T threshold) {
  T const inter = intersection(kept, other), all = kept_area + other_area - inter;
  if (threshold >= T(0) && inter < threshold * all) return false;
  return inter / all > threshold;
}

// No threshold (minus infinity) lets every score pass, NaN too; a real one does not. Compared in T, as torch compares
// a tensor with a number.
template <class T>
LEYOLO_HD bool takes_part(T score, double threshold) {
  return T(threshold) == -std::numeric_limits<T>::infinity() || score > T(threshold);
}

}  // namespace leyolo

// Which source pixels an output coordinate is made of: OpenCV's arithmetic, for both devices, without contraction.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/math.h"

namespace leyolo {

struct Tap {
  int first, second;  // source rows or columns
  int w0, w1;         // 1 / 2048
};

// Source pixels per output pixel.
inline double tap_scale(int64_t from, int64_t to) { return 1.0 / (double(to) / double(from)); }

// The position, in float32, of the middle of output pixel i.
LEYOLO_HD float tap_position(int64_t i, double scale) { return float((double(i) + 0.5) * scale - 0.5); }
LEYOLO_HD int tap_weight(float w) { return int(rintf(w * 2048.0f)); }

// Rows outside the image are those at the edge, with their weights as they are.
LEYOLO_HD Tap row_tap(int64_t i, int64_t from, double scale) {
  float const position = tap_position(i, scale), below = floorf(position), fraction = position - below;
  int64_t const at = int64_t(below);
  auto const inside = [&](int64_t row) { return int(row < 0 ? 0 : row > from - 1 ? from - 1 : row); };
  return {inside(at), inside(at + 1), tap_weight(1.0f - fraction), tap_weight(fraction)};
}

// Columns outside get the whole weight onto the edge; where the second weight is 0 there may be no second column.
LEYOLO_HD Tap column_tap(int64_t i, int64_t from, double scale) {
  float const position = tap_position(i, scale), below = floorf(position);
  int64_t const at = int64_t(below);
  if (at < 0) return {0, 0, 2048, 0};
  if (at >= from - 1) return {int(from - 1), int(from - 1), 2048, 0};
  float const fraction = position - below;
  return {int(at), int(at + 1), tap_weight(1.0f - fraction), tap_weight(fraction)};
}

}  // namespace leyolo

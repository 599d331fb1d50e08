// The resize in whole numbers, for both devices.
#pragma once

#include "core/math.h"

namespace leyolo {

// Two neighbours in a row, weights in units of 1 / 2048: 16 bits.
LEYOLO_HD int mix_columns(int left, int right, int w0, int w1) { return (left * w0 + right * w1) >> 4; }
// Two such results: a pixel.
LEYOLO_HD int mix_rows(int upper, int lower, int w0, int w1) {
  return ((upper * w0 >> 16) + (lower * w1 >> 16) + 2) >> 2;
}
LEYOLO_HD int mean_of_four(int a, int b, int c, int d) { return (a + b + c + d + 2) >> 2; }

}  // namespace leyolo

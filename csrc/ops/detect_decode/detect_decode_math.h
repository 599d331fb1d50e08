// Arithmetic behind decisions of detect_decode: basic operations only, in a fixed order, so that every machine (and the
// CUDA twin) gets the same bits. Compiled without contraction into fused multiply-adds.
#pragma once

#include "core/box.h"

namespace leyolo {

// e^x = 2^n e^r with |r| <= log(2) / 2; log(2) in two parts, of which n * kLog2High is exact. The polynomial is that of
// Cephes' expf (S. Moshier): (e^r - 1 - r) / r^2, about one ulp.
constexpr float kLog2e = 1.44269504f, kLog2High = 0.693359375f, kLog2Low = -2.12194440e-4f;
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits

// e^r; V is float or a vector of floats.
template <class V>
LEYOLO_HD V exp_near_0(V r) {
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

// With gradual underflow, infinity above 88.73, NaN for NaN.
LEYOLO_HD float exp_exact(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  float const shifted = x * kLog2e + kRound, n = shifted - kRound;
  float const e = exp_near_0((x - n * kLog2High) - n * kLog2Low);
  // 2^n in two factors: n goes from -150 to 128.
  unsigned const biased = __builtin_bit_cast(unsigned, shifted) - __builtin_bit_cast(unsigned, kRound) + 254u;
  unsigned const half = biased >> 1;
  return e * __builtin_bit_cast(float, half << 23) * __builtin_bit_cast(float, (biased - half) << 23);
}

// The same for x <= 0 and without underflow: at least e^-87. I: as many integers. NaN gives NaN (or, by their payloads,
// nonsense: where x may be NaN, ask before).
template <class V, class I>
LEYOLO_HD V exp_of_negative(V x) {
  x = x < -87.0f ? V{} - 87.0f : x;
  V const shifted = x * kLog2e + kRound, n = shifted - kRound;
  V const e = exp_near_0((x - n * kLog2High) - n * kLog2Low);
  return __builtin_bit_cast(V, __builtin_bit_cast(I, e) + (__builtin_bit_cast(I, shifted) << 23));
}

LEYOLO_HD float sigmoid_exact(float x) {
  float const e = exp_exact(x < 0.0f ? x : -x);
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// Orders as the floats do (-0 equals 0), as unsigned integers.
LEYOLO_HD unsigned order_key(float f) {
  unsigned const bits = __builtin_bit_cast(unsigned, f + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Boxes of an anchor: from the distances to its sides, and from the four numbers of a yolox head.
LEYOLO_HD Box<float> box_around(float const* d, float const* center, float stride) {
  return {center[0] - d[0] * stride, center[1] - d[1] * stride, center[0] + d[2] * stride, center[1] + d[3] * stride};
}
LEYOLO_HD Box<float> yolox_box(float x, float y, float log_w, float log_h, float const* center, float stride) {
  float const cx = x * stride + (center[0] - 0.5f * stride), cy = y * stride + (center[1] - 0.5f * stride);
  float const w = exp_exact(log_w) * stride, h = exp_exact(log_h) * stride;
  return {cx - 0.5f * w, cy - 0.5f * h, cx + 0.5f * w, cy + 0.5f * h};
}

}  // namespace leyolo

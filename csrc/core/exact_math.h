// exp, log, atan and pow in float32 as the same operations everywhere: on a scalar, on the vectors of every instruction
// set and on the GPU, so that what is decided on their results is decided alike. V is float or a vector of floats.
// Files that include this are compiled without contraction into fused multiply-adds. Polynomials: our own minimax fits.
// Errors, measured against double in tests/cpp/test_exact_math.cpp: log 1 ulp, exp 2 ulp, atan 3 ulp.
#pragma once

#include "core/math.h"

namespace leyolo {

// The integers in which comparisons of V answer and to which its bits are cast.
template <class V>
struct IntegersOf {
  using type = decltype(V{} < V{});
};
template <>
struct IntegersOf<float> {
  using type = int;
};
template <class V>
using integers_of = typename IntegersOf<V>::type;

// The constant c in every lane (c is not -0).
template <class V>
LEYOLO_HD V all(float c) {
  return V{} + c;
}

template <class V>
LEYOLO_HD V square_root(V x) {
  if constexpr (sizeof(V) == sizeof(float)) {
    return __builtin_sqrtf(x);
  } else {
    for (int i = 0; i < int(sizeof(V) / sizeof(float)); ++i) x[i] = __builtin_sqrtf(x[i]);  // becomes one instruction
    return x;
  }
}

// log(0) = -infinity; NaN and anything below 0 give NaN.
template <class V>
LEYOLO_HD V log_exact(V x) {
  using I = integers_of<V>;
  auto const tiny = x < 0x1p-126f;
  // What is no positive number is put right at the end; 1 keeps the integers below from overflowing.
  V const scaled = (x > 0.0f) & (x < __builtin_inff()) ? (tiny ? x * 0x1p23f : x) : all<V>(1.0f);
  I const bits = __builtin_bit_cast(I, scaled);
  I const up = bits + (0x3f800000 - 0x3f3504f3);  // the mantissa goes to [sqrt(1/2), sqrt(2))
  I const exponent = (up >> 23) - 127;
  V const f = __builtin_bit_cast(V, (up & 0x007fffff) + 0x3f3504f3) - 1.0f;
  V e;
  if constexpr (sizeof(V) == sizeof(float))
    e = float(exponent);
  else
    e = __builtin_convertvector(exponent, V);
  e = tiny ? e - 23.0f : e;
  V p = all<V>(6.74664317e-2f);
  p = p * f - 1.16756568e-1f;
  p = p * f + 1.18881638e-1f;
  p = p * f - 1.24055883e-1f;
  p = p * f + 1.42195521e-1f;
  p = p * f - 1.66679959e-1f;
  p = p * f + 2.00021187e-1f;
  p = p * f - 2.50000096e-1f;
  p = p * f + 3.33333126e-1f;
  V const square = f * f;
  // log(2) in two parts: the first has 9 zero bits at its end, so that its product with the exponent is exact.
  V r = square * f * p - 0.5f * square;
  r = r + e * -2.12194440e-4f;
  r = (f + r) + e * 0.693359375f;
  r = x < __builtin_inff() ? r : x;  // infinity and NaN as they came
  r = x == 0.0f ? all<V>(-__builtin_inff()) : r;
  return x < 0.0f ? all<V>(__builtin_nanf("")) : r;
}

// 0 below -104, infinity above 88.73.
template <class V>
LEYOLO_HD V exp_exact(V x) {
  using I = integers_of<V>;
  V const above = x > -104.0f ? x : all<V>(-104.0f);  // NaN too; it is put right at the end
  V const clamped = above > 89.0f ? all<V>(89.0f) : above;
  V const shift = all<V>(12582912.0f);  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  V const shifted = clamped * 1.44269504f + shift;
  V const n = shifted - shift;
  V const r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  V q = all<V>(1.38144669e-3f);
  q = q * r + 8.36878051e-3f;
  q = q * r + 4.16683942e-2f;
  q = q * r + 1.66665201e-1f;
  q = q * r + 4.99999934e-1f;
  V const p = (q * (r * r) + r) + 1.0f;
  // 2^n in two factors: n reaches from -150 to 128, beyond what one float holds.
  I const whole = __builtin_bit_cast(I, shifted) - 0x4b400000, half = whole >> 1;
  V const first = __builtin_bit_cast(V, (half + 127) << 23), second = __builtin_bit_cast(V, (whole - half + 127) << 23);
  V const y = p * first * second;
  return x == x ? y : x;
}

// A sum that carries the rounding of its additions along.
template <class V>
struct CompensatedSum {
  V sum, lost;

  LEYOLO_HD void add(V term) {
    V const next = sum + term, back = next - sum;
    lost = lost + ((sum - (next - back)) + (term - back));
    sum = next;
  }
};

template <class V>
LEYOLO_HD V sigmoid_exact(V x) {
  return 1.0f / (1.0f + exp_exact(-x));
}

template <class V>
LEYOLO_HD V atan_exact(V x) {
  V const a = x < 0.0f ? -x : x;
  auto const large = a > 2.41421356f, middle = a > 0.41421356f;
  V const t = large ? -1.0f / a : middle ? (a - 1.0f) / (a + 1.0f) : a;
  V const base = large ? all<V>(1.57079633f) : middle ? all<V>(0.785398163f) : V{};
  V const z = t * t;
  V p = all<V>(-6.07361073e-2f);
  p = p * z + 1.05920783e-1f;
  p = p * z - 1.42433110e-1f;
  p = p * z + 1.99984605e-1f;
  p = p * z - 3.33333150e-1f;
  V const y = base + (t * z * p + t);
  return x < 0.0f ? -y : y;
}

// x^power for x >= 0: products for whole powers up to 16, the square root for 1/2, else exp(power * log(x)).
template <class V>
LEYOLO_HD V power_exact(V x, float power) {
  if (power == 0.5f) return square_root(x);
  int const whole = power >= 0.0f && power <= 16.0f ? int(power) : -1;
  if (float(whole) == power) {
    V result = all<V>(1.0f), square = x;
    for (int n = whole; n > 0; n >>= 1) {
      if (n & 1) result = result * square;
      square = square * square;
    }
    return result;
  }
  return exp_exact(log_exact(x) * power);
}

}  // namespace leyolo

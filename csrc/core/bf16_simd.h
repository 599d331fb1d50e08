// bfloat16 storage and dot products for `*.bf16.simd.cpp`, which are compiled once, for AVX512-BF16. The rules of
// core/simd.h hold here too.
#pragma once

#include "core/bf16.h"
#include "core/simd.h"

namespace leyolo::LEYOLO_ISA {
namespace {

typedef uint32_t pair_loose __attribute__((aligned(2), may_alias));

// acc + a0 b0 + a1 b1 for the pairs (0: low half) of each lane. The instruction rounds to nearest even, takes
// subnormal inputs as zero and flushes subnormal results to zero, whatever the control register says.
LEYOLO_INLINE vf dot(vf acc, vu a, vu b) {
  return reinterpret_cast<vf>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(acc), (__m512bh)(a),
                                               (__m512bh)(b)));  // GCC and clang differ in the type
}

// Two neighbouring values in every lane.
LEYOLO_INLINE vu splat_pair(uint16_t const* p) {
  return reinterpret_cast<vu>(_mm512_set1_epi32(static_cast<int>(*reinterpret_cast<pair_loose const*>(p))));
}
// One value and a zero.
LEYOLO_INLINE vu splat_single(uint16_t const* p) { return reinterpret_cast<vu>(_mm512_set1_epi32(*p)); }

// a0 b0 a1 b1 ...
LEYOLO_INLINE vu interleave(__m256i a, __m256i b) {
  alignas(64) static constexpr uint16_t order[] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                   8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  return reinterpret_cast<vu>(
      _mm512_permutex2var_epi16(_mm512_castsi256_si512(a), _mm512_load_si512(order), _mm512_castsi256_si512(b)));
}

LEYOLO_INLINE vf widen(__m256i v) { return reinterpret_cast<vf>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
LEYOLO_INLINE __m256i narrow(vf v) { return (__m256i)_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v)); }

LEYOLO_INLINE __m512i narrow_two(vf low, vf high) {
  return (__m512i)_mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(high), reinterpret_cast<__m512>(low));
}

LEYOLO_INLINE __m256i load_half(uint16_t const* p) { return _mm256_loadu_si256(reinterpret_cast<__m256i const*>(p)); }
LEYOLO_INLINE void store_half(uint16_t* p, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
// The first n lanes (0 < n <= 16); nothing behind them is touched.
LEYOLO_INLINE __m256i load_half_part(uint16_t const* p, int n) {
  return _mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1), p);
}
LEYOLO_INLINE void store_half_part(uint16_t* p, __m256i v, int n) {
  _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), v);
}

// SiLU of x from t = kSiluScale x: packed weights and biases carry the factor, which saves two multiplications.
// Relative error below 1.1e-4, a thirtieth of a rounding to bfloat16: 2^f by a polynomial of degree 3 that is 1 at 0.
LEYOLO_INLINE vf silu_scaled(vf t) {
  constexpr float c = kSiluScale;
  vf const n = reinterpret_cast<vf>(_mm512_roundscale_ps(reinterpret_cast<__m512>(t), 8)), f = t - n;
  vf p = splat(c * 5.500886e-2f);
  p = p * f + c * 2.4221096e-1f;
  p = p * f + c * 6.9328294e-1f;
  p = p * f + c;
  return t / (reinterpret_cast<vf>(_mm512_scalef_ps(reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n))) + c);
}

// Out of line: rare, and unrolled it would only crowd the instruction cache.
[[maybe_unused]] __attribute__((noinline)) vf other_activation(Activation a, vf x) { return activate(a, x); }

}  // namespace
}  // namespace leyolo::LEYOLO_ISA

// Vectors for `*.simd.cpp`, on GCC vector extensions. Such a file is compiled once per instruction set, so it (and this
// header) must leave no symbol behind that the linker could merge between sets: no standard header, everything in an
// anonymous or per-set namespace. tests/test_house.py looks at the object files.
#pragma once

typedef __INT64_TYPE__ int64_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT8_TYPE__ uint8_t;

#if defined(__AVX512F__)
#define LEYOLO_ISA avx512
#define LEYOLO_LANES 16
#elif defined(__AVX2__)
#define LEYOLO_ISA avx2
#define LEYOLO_LANES 8
#else
#define LEYOLO_ISA baseline
#define LEYOLO_LANES 4
#endif

#if defined(__AVX2__)
#include <immintrin.h>  // only always_inline functions: they leave no symbol
#endif

#define LEYOLO_INLINE inline __attribute__((always_inline))
#define LEYOLO_LAMBDA __attribute__((always_inline))

namespace leyolo::LEYOLO_ISA {
namespace {

constexpr int kLanes = LEYOLO_LANES;

typedef float vf __attribute__((vector_size(4 * LEYOLO_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LEYOLO_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LEYOLO_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LEYOLO_LANES)));
typedef float vf_loose __attribute__((vector_size(4 * LEYOLO_LANES), aligned(4), may_alias));
typedef int32_t vi_loose __attribute__((vector_size(4 * LEYOLO_LANES), aligned(4), may_alias));
typedef uint16_t vh_loose __attribute__((vector_size(2 * LEYOLO_LANES), aligned(2), may_alias));

LEYOLO_INLINE vf splat(float f) { return vf{} + f; }
LEYOLO_INLINE vf load(float const* p) { return *reinterpret_cast<vf_loose const*>(p); }
LEYOLO_INLINE void store(float* p, vf v) { *reinterpret_cast<vf_loose*>(p) = v; }
LEYOLO_INLINE vf min_of(vf a, vf b) { return b < a ? b : a; }
LEYOLO_INLINE vf max_of(vf a, vf b) { return a < b ? b : a; }

// The first n lanes (0 < n <= kLanes) and zeros; nothing behind them is touched.
LEYOLO_INLINE vf load_part(float const* p, int n) {
#if defined(__AVX512F__)
  return reinterpret_cast<vf>(_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p));
#elif defined(__AVX2__)
  vi const lane = {0, 1, 2, 3, 4, 5, 6, 7};
  return reinterpret_cast<vf>(_mm256_maskload_ps(p, reinterpret_cast<__m256i>(lane < n)));
#else
  vf v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}
LEYOLO_INLINE void store_part(float* p, vf v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  vi const lane = {0, 1, 2, 3, 4, 5, 6, 7};
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(lane < n), reinterpret_cast<__m256>(v));
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// e^x for |x| <= 88; relative error below 3 ulp. 2^n by adding 1.5 * 2^23, ln 2 in two parts, a degree-6 polynomial.
LEYOLO_INLINE vf exp_of(vf x) {
  vf const shift = splat(12582912.0f);
  vf const shifted = x * 1.44269504088896341f + shift;
  vf const n = shifted - shift;
  vf const r = (x - n * 0.693145751953125f) - n * 1.42860677e-6f;
  vf p = splat(1.3888889e-3f);
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return reinterpret_cast<vf>(reinterpret_cast<vi>(p) + (reinterpret_cast<vi>(shifted) << 23));
}

LEYOLO_INLINE vf sigmoid(vf x) {
  // Clamped where float32 has nothing left to say; NaN stays NaN (the comparisons are false).
  vf const low = x < splat(-87.0f) ? splat(-87.0f) : x;
  vf const t = low > splat(87.0f) ? splat(87.0f) : low;
  return 1.0f / (1.0f + exp_of(-t));
}

}  // namespace
}  // namespace leyolo::LEYOLO_ISA

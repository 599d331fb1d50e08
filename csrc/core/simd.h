// Vectors for `*.simd.cpp`, on GCC vector extensions. Such a file is compiled once per instruction set, so it (and this
// header) must leave no symbol behind that the linker could merge between sets: no standard header, everything in an
// anonymous or per-set namespace. tests/test_house.py looks at the object files.
#pragma once

typedef __INT64_TYPE__ int64_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT8_TYPE__ uint8_t;

#if defined(__AVX512BF16__)
#define LEYOLO_ISA avx512bf16
#define LEYOLO_LANES 16
#elif defined(__AVX512F__)
#define LEYOLO_ISA avx512
#define LEYOLO_LANES 16
#elif defined(__AVX2__)
#define LEYOLO_ISA avx2
#define LEYOLO_LANES 8
#else
#define LEYOLO_ISA baseline
#define LEYOLO_LANES 4
#endif

// Vector registers: what the tiles of kernels may fill.
#if defined(__AVX512F__) || defined(__aarch64__)
#define LEYOLO_REGISTERS 32
#else
#define LEYOLO_REGISTERS 16
#endif

#if defined(__x86_64__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 on its own _mm512_undefined_ps
#include <immintrin.h>                                  // only always_inline functions: they leave no symbol
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "core/activation.h"

#define LEYOLO_INLINE inline __attribute__((always_inline))
#define LEYOLO_LAMBDA __attribute__((always_inline))

namespace leyolo::LEYOLO_ISA {
namespace {

constexpr int kLanes = LEYOLO_LANES, kRegisters = LEYOLO_REGISTERS;

typedef float vf __attribute__((vector_size(4 * LEYOLO_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LEYOLO_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LEYOLO_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LEYOLO_LANES)));
typedef float vf_loose __attribute__((vector_size(4 * LEYOLO_LANES), aligned(4), may_alias));
typedef int32_t vi_loose __attribute__((vector_size(4 * LEYOLO_LANES), aligned(4), may_alias));
typedef uint16_t vh_loose __attribute__((vector_size(2 * LEYOLO_LANES), aligned(2), may_alias));
typedef uint32_t vu_loose __attribute__((vector_size(4 * LEYOLO_LANES), aligned(4), may_alias));

// Not vf{} + f: that is an addition, since -0 + 0 is +0.
#if LEYOLO_LANES == 16
LEYOLO_INLINE vf splat(float f) { return vf{f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f}; }
#elif LEYOLO_LANES == 8
LEYOLO_INLINE vf splat(float f) { return vf{f, f, f, f, f, f, f, f}; }
#else
LEYOLO_INLINE vf splat(float f) { return vf{f, f, f, f}; }
#endif
LEYOLO_INLINE vf load(float const* p) { return *reinterpret_cast<vf_loose const*>(p); }
LEYOLO_INLINE void store(float* p, vf v) { *reinterpret_cast<vf_loose*>(p) = v; }

// Keeps a loaded vector in its register: GCC otherwise loads it again for every multiplication that uses it.
LEYOLO_INLINE vf pinned(vf v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

LEYOLO_INLINE vf min_of(vf a, vf b) { return b < a ? b : a; }
LEYOLO_INLINE vf max_of(vf a, vf b) { return a < b ? b : a; }

// All ones in the first n lanes.
LEYOLO_INLINE vi first_lanes(int n) {
#if LEYOLO_LANES == 16
  vi const lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif LEYOLO_LANES == 8
  vi const lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
  vi const lane = {0, 1, 2, 3};
#endif
  return lane < n;
}

// Whether any lane of a mask (all ones or zero) is set.
LEYOLO_INLINE bool any(vi mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#elif defined(__x86_64__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(mask)) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32(reinterpret_cast<uint32x4_t>(mask)) != 0;
#else
  int32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= mask[i];
  return bits != 0;
#endif
}

// The first n lanes (0 < n <= kLanes) and zeros; nothing behind them is touched.
LEYOLO_INLINE vf load_part(float const* p, int n) {
#if defined(__AVX512F__)
  return reinterpret_cast<vf>(_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p));
#elif defined(__AVX2__)
  return reinterpret_cast<vf>(_mm256_maskload_ps(p, reinterpret_cast<__m256i>(first_lanes(n))));
#else
  if (n >= kLanes) return load(p);
  vf v{p[0]};  // constant lanes: an index that varies would go through memory
  if (n > 1) v[1] = p[1];
  if (n > 2) v[2] = p[2];
  return v;
#endif
}
LEYOLO_INLINE void store_part(float* p, vf v, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(first_lanes(n)), reinterpret_cast<__m256>(v));
#else
  if (n >= kLanes) return store(p, v);
  p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
#endif
}

#if defined(__AVX512F__)
// 2^(i / 32)
alignas(128) constexpr float kPowers[32] = {
    1.00000000f, 1.02189720f, 1.04427373f, 1.06714046f, 1.09050775f, 1.11438680f, 1.13878863f, 1.16372490f,
    1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f,
    1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.57598090f, 1.61049032f, 1.64575553f,
    1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.83400810f, 1.87416768f, 1.91520655f, 1.95714414f};
#endif

// e^x, saturating to 0 (about 1e-38) and to infinity (about 1e38); NaN stays NaN. 2^t = 2^n * 2^f with n = round(t) and
// a minimax polynomial of degree 5 for 2^f, |f| <= 1/2 (0.77 ulp). Relative error below 2 ulp for |x| <= 10, growing to
// 12 ulp at |x| = 87, where the rounding of log2(e) shows (more without a fused multiply-add).
// AVX-512 looks 2^(i / 32) up, so that |f| <= 1/64 and degree 2 suffices: the additions and the look-up do not take the
// execution units of the multiplications, which a convolution next to it wants.
// Those of an array go step by step together: latencies overlap without a deep queue in the processor.
template <int N>
LEYOLO_INLINE void exp_each(vf (&x)[N]) {
  vf const log2e = splat(1.44269504f);
  vf n[N], p[N];
#define LEYOLO_EACH _Pragma("GCC unroll 16") for (int i = 0; i < N; ++i)
#if defined(__AVX512F__)
  vf const shift = splat(393216.0f);  // 1.5 * 2^18: adding it leaves 32 t, rounded, in the low bits
  vf shifted[N];
  LEYOLO_EACH x[i] = pinned(x[i] * log2e);  // not fused: for a huge x, f would not be small
  LEYOLO_EACH shifted[i] = x[i] + shift;
  LEYOLO_EACH n[i] = shifted[i] - shift;
  LEYOLO_EACH x[i] = x[i] - n[i];
  LEYOLO_EACH p[i] = x[i] * 2.40226507e-1f + 6.93157375e-1f;
  LEYOLO_EACH shifted[i] = reinterpret_cast<vf>(_mm512_permutex2var_ps(
      _mm512_load_ps(kPowers), reinterpret_cast<__m512i>(shifted[i]), _mm512_load_ps(kPowers + 16)));
  LEYOLO_EACH p[i] = shifted[i] + (shifted[i] * x[i]) * p[i];
  LEYOLO_EACH x[i] =
      reinterpret_cast<vf>(_mm512_scalef_ps(reinterpret_cast<__m512>(p[i]), reinterpret_cast<__m512>(n[i])));
#else
#if defined(__AVX2__)
  LEYOLO_EACH x[i] = reinterpret_cast<vf>(
      _mm256_min_ps(_mm256_set1_ps(87.3f), _mm256_max_ps(_mm256_set1_ps(-87.3f), reinterpret_cast<__m256>(x[i]))));
#elif defined(__aarch64__)
  LEYOLO_EACH x[i] =
      reinterpret_cast<vf>(vminq_f32(vdupq_n_f32(87.3f), vmaxq_f32(vdupq_n_f32(-87.3f), float32x4_t(x[i]))));
#else
  LEYOLO_EACH x[i] = x[i] < splat(-87.3f) ? splat(-87.3f) : x[i];
  LEYOLO_EACH x[i] = x[i] > splat(87.3f) ? splat(87.3f) : x[i];
#endif
  vf const shift = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  vf shifted[N];
  LEYOLO_EACH shifted[i] = x[i] * log2e + shift;
  LEYOLO_EACH n[i] = shifted[i] - shift;
  LEYOLO_EACH x[i] = x[i] * log2e - n[i];
  LEYOLO_EACH p[i] = splat(1.32647273e-3f) * x[i] + 9.67151299e-3f;
  LEYOLO_EACH p[i] = p[i] * x[i] + 5.55073358e-2f;
  LEYOLO_EACH p[i] = p[i] * x[i] + 2.40222424e-1f;
  LEYOLO_EACH p[i] = p[i] * x[i] + 6.93147004e-1f;
  LEYOLO_EACH p[i] = p[i] * x[i] + 1.0f;  // exactly 1: a bias at x = 0 would add up over the layers of a network
  LEYOLO_EACH x[i] = reinterpret_cast<vf>(reinterpret_cast<vi>(p[i]) + (reinterpret_cast<vi>(shifted[i]) << 23));
#endif
}

LEYOLO_INLINE vf exp_of(vf x) {
  vf one[] = {x};
  exp_each(one);
  return one[0];
}

LEYOLO_INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + exp_of(-x)); }

// x * sigmoid(x): relative error below 5 ulp for x >= -10 (12 without FMA); absolute error below 1e-9 for x < -10.
template <int N>
LEYOLO_INLINE void silu_each(vf (&x)[N]) {
  vf e[N];
#if !defined(__AVX512F__)
  // exp_of saturates there, and x alone must not run on. So silu(-infinity) is -1e-36 here; AVX-512 gives torch's NaN.
  LEYOLO_EACH x[i] = x[i] < splat(-87.3f) ? splat(-87.3f) : x[i];
#endif
  LEYOLO_EACH e[i] = -x[i];
  exp_each(e);
  LEYOLO_EACH x[i] = x[i] / (1.0f + e[i]);
#undef LEYOLO_EACH
}

LEYOLO_INLINE vf silu(vf x) {
  vf one[] = {x};
  silu_each(one);
  return one[0];
}

LEYOLO_INLINE vf activate(Activation a, vf x) {
  switch (a) {
    case Activation::silu: return silu(x);
    case Activation::relu: return max_of(x, vf{});
    case Activation::relu6: return min_of(max_of(x, vf{}), splat(6.0f));
    case Activation::hardswish: return x * min_of(max_of(x + 3.0f, vf{}), splat(6.0f)) * (1.0f / 6.0f);
    default: return x;
  }
}

LEYOLO_INLINE vf activation_gradient(Activation a, vf x) {
  vf const zero{}, one = splat(1.0f);
  switch (a) {
    case Activation::silu: {
      vf const s = sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::relu: return x > zero ? one : zero;
    case Activation::relu6: return (x > zero) & (x < splat(6.0f)) ? one : zero;
    case Activation::hardswish: return x <= splat(-3.0f) ? zero : x < splat(3.0f) ? x * (1.0f / 3.0f) + 0.5f : one;
    default: return one;
  }
}

}  // namespace
}  // namespace leyolo::LEYOLO_ISA

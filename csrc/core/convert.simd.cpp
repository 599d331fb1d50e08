#include "core/convert_args.h"
#include "core/simd.h"

namespace leyolo::LEYOLO_ISA {

namespace {

LEYOLO_INLINE vf from_bf16(vh h) { return reinterpret_cast<vf>(__builtin_convertvector(h, vu) << 16); }

LEYOLO_INLINE vh to_bf16(vf f) {
  vu const u = reinterpret_cast<vu>(f);
  vu const rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return __builtin_convertvector(f == f ? rounded : vu{} + 0x7fc0u, vh);
}

// Subnormals too: the product with 2^112 renormalises them.
LEYOLO_INLINE vf from_f16(vh h) {
  vu const u = __builtin_convertvector(h, vu);
  vu const sign = (u & 0x8000u) << 16, rest = (u & 0x7fffu) << 13;
  vu const finite = reinterpret_cast<vu>(reinterpret_cast<vf>(rest) * 0x1p112f);
  return reinterpret_cast<vf>(sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : finite));
}

LEYOLO_INLINE vh to_f16(vf f) {
  vu const u = reinterpret_cast<vu>(f);
  vu const sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  vu const rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  vu const normal = rounded >= 0x47800000u ? vu{} + 0x7c00u : (rounded - 0x38000000u) >> 13;
  vu const tiny = reinterpret_cast<vu>(reinterpret_cast<vf>(magnitude) + 0.5f) - 0x3f000000u;
  vu const special = magnitude > 0x7f800000u ? vu{} + 0x7e00u : vu{} + 0x7c00u;
  vu const value = magnitude >= 0x7f800000u ? special : magnitude >= 0x38800000u ? normal : tiny;
  return __builtin_convertvector(sign | value, vh);
}

// Whole vectors, then the rest through one padded vector.
template <class To, class From, class F>
LEYOLO_INLINE void each(ConvertArgs const& a, F f) {
  typedef From from_v __attribute__((vector_size(sizeof(From) * kLanes), aligned(sizeof(From)), may_alias));
  typedef To to_v __attribute__((vector_size(sizeof(To) * kLanes), aligned(sizeof(To)), may_alias));
  From const* from = static_cast<From const*>(a.from);
  To* to = static_cast<To*>(a.to);
  int64_t i = 0;
  for (; i + kLanes <= a.count; i += kLanes)
    *reinterpret_cast<to_v*>(to + i) = f(*reinterpret_cast<from_v const*>(from + i));
  if (i == a.count) return;
  From source[kLanes] = {};
  To result[kLanes];
  for (int64_t j = i; j < a.count; ++j) source[j - i] = from[j];
  *reinterpret_cast<to_v*>(result) = f(*reinterpret_cast<from_v const*>(source));
  for (int64_t j = i; j < a.count; ++j) to[j] = result[j - i];
}

}  // namespace

extern void float_from_bf16(ConvertArgs const& a) {
  each<float, uint16_t>(a, [](vh h) LEYOLO_LAMBDA { return from_bf16(h); });
}
extern void bf16_from_float(ConvertArgs const& a) {
  each<uint16_t, float>(a, [](vf f) LEYOLO_LAMBDA { return to_bf16(f); });
}
extern void float_from_f16(ConvertArgs const& a) {
  each<float, uint16_t>(a, [](vh h) LEYOLO_LAMBDA { return from_f16(h); });
}
extern void f16_from_float(ConvertArgs const& a) {
  each<uint16_t, float>(a, [](vf f) LEYOLO_LAMBDA { return to_f16(f); });
}

}  // namespace leyolo::LEYOLO_ISA

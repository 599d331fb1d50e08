#include "core/simd.h"

namespace leyolo::LEYOLO_ISA {

// to[i] = from[i] / 255, rounded as the division is, at the price of two multiplications: 257 / 65536 holds the leading
// bits of 1 / 255, so that the first product is exact, and the second one is the small rest. Tests see all 256 values.
extern void unit_from_bytes(unsigned char const* from, float* to, long long count) {
  typedef unsigned char bytes __attribute__((vector_size(kLanes), aligned(1), may_alias));
  constexpr float kLead = 0x1.01p-8f, kRest = 0x1.010102p-24f;
  long long i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    vf const v = __builtin_convertvector(*reinterpret_cast<bytes const*>(from + i), vf);
    store(to + i, v * kLead + v * kRest);
  }
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]) / 255.0f;
}

}  // namespace leyolo::LEYOLO_ISA

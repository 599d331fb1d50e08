// For `*.exact.simd.cpp` of the assigners: loads of box fields and what plain vectors lack. Rows are padded to kPad.
#pragma once

#include "core/assignment_math.h"
#include "core/simd.h"

namespace leyolo::LEYOLO_ISA {
namespace {

LEYOLO_INLINE AreaBox<vf> boxes_at(Rows rows, long long i) {
  return {load(rows[kX1] + i), load(rows[kY1] + i), load(rows[kX2] + i), load(rows[kY2] + i), load(rows[kArea] + i)};
}
LEYOLO_INLINE AreaBox<vf> box_in_all_lanes(Rows rows, long long i) {
  return {splat(rows[kX1][i]), splat(rows[kY1][i]), splat(rows[kX2][i]), splat(rows[kY2][i]), splat(rows[kArea][i])};
}

// Bit l is set where lane l of a comparison holds.
LEYOLO_INLINE unsigned bits_of(vi mask) {
#if defined(__AVX512F__)
  return unsigned(_mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)));
#elif defined(__AVX2__)
  return unsigned(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif defined(__aarch64__)
  return vaddvq_u32(reinterpret_cast<uint32x4_t>(mask) & uint32x4_t{1, 2, 4, 8});
#else
  unsigned bits = 0;
  for (int l = 0; l < kLanes; ++l) bits |= unsigned(mask[l] & 1) << l;
  return bits;
#endif
}

}  // namespace
}  // namespace leyolo::LEYOLO_ISA

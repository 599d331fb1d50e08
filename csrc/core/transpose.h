// For packing weights: rows of a matrix become the lanes of vectors.
#pragma once

#include <cstdint>

#include "core/isa.h"

namespace leyolo {

LEYOLO_SIMD(void transpose_rows(float const* from, long long pitch, int rows, long long columns, float* to,
                                long long to_pitch))

// to[c * to_pitch + r] = from[r * pitch + c] for all columns c and every lane r of a vector; zero from `rows` on.
inline void transpose(float const* from, int64_t pitch, int64_t rows, int64_t columns, float* to, int64_t to_pitch) {
  LEYOLO_PICK(transpose_rows)(from, pitch, int(rows), columns, to, to_pitch);
}

}  // namespace leyolo

// Matrices of float32 transposed: for packing weights, where rows become the lanes of vectors, and between the memory
// formats of maps.
#pragma once

#include <cstdint>

#include "core/context.h"
#include "core/isa.h"

namespace leyolo {

LEYOLO_SIMD(void transpose_rows(float const* from, long long pitch, int rows, long long columns, float* to,
                                long long to_pitch))
LEYOLO_SIMD(void transpose_tile(float const* from, long long from_pitch, int rows, int columns, float* to,
                                long long to_pitch))

// to[c * to_pitch + r] = from[r * pitch + c] for all columns c and every lane r of a vector; zero from `rows` on.
inline void transpose(float const* from, int64_t pitch, int64_t rows, int64_t columns, float* to, int64_t to_pitch) {
  LEYOLO_PICK(transpose_rows)(from, pitch, int(rows), columns, to, to_pitch);
}

// to[n][c][r] = from[n][r][c], of `count` matrices [rows, columns] without gaps: [C, H * W] to [H * W, C] and back.
void transpose_matrices(float const* from, int64_t count, int64_t rows, int64_t columns, float* to,
                        Context const& context);

}  // namespace leyolo

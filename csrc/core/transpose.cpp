#include "core/transpose.h"

namespace leyolo {

namespace {

constexpr int64_t kTile = 64;  // 16 KB each of what is read and written: both stay in the first-level cache

}  // namespace

void transpose_matrices(float const* from, int64_t count, int64_t rows, int64_t columns, float* to,
                        Context const& context) {
  int64_t const down = (rows + kTile - 1) / kTile, across = (columns + kTile - 1) / kTile;
  auto* const tile = LEYOLO_PICK(transpose_tile);
  parallel_for(context, 0, count * down * across, 4, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t const matrix = i / (down * across), row = i / across % down * kTile, column = i % across * kTile;
      int64_t const base = matrix * rows * columns;
      tile(from + base + row * columns + column, columns, int(std::min(kTile, rows - row)),
           int(std::min(kTile, columns - column)), to + base + column * rows + row, rows);
    }
  });
}

}  // namespace leyolo

#include "check.h"
#include "core/transpose.h"
#include "tensor.h"

using namespace leyolo;

TEST(transpose_of_every_size) {
  int64_t const width = lanes();
  for (int64_t rows : {int64_t(1), int64_t(3), width - 1, width, width + 5})
    for (int64_t columns : {int64_t(1), width - 1, width, width + 1, 3 * width})
      for (int64_t gap : {0, 3}) {
        // Exactly as large as read and written: the sanitizer sees the first element outside.
        int64_t const pitch = columns + gap, to_pitch = width + gap;
        Array from = random_array({(rows - 1) * pitch + columns}, -1, 1);
        Array to(DType::f32, {(columns - 1) * to_pitch + width});
        std::fill(to.data(), to.data() + to.view.numel(), 7.0f);
        transpose(from.data(), pitch, rows, columns, to.data(), to_pitch);
        for (int64_t i = 0; i < to.view.numel(); ++i) {
          int64_t const row = i % to_pitch, column = i / to_pitch;
          float const expected = row >= width ? 7.0f : row < rows ? from.data()[row * pitch + column] : 0.0f;
          CHECK(to.data()[i] == expected);
        }
      }
}

TEST(transposed_matrices_of_every_size) {
  for (int64_t count : {0, 1, 3})
    for (int64_t rows : {1, 15, 64, 97})
      for (int64_t columns : {1, 16, 33, 130}) {
        Array from = random_array({count, rows, columns}, -1, 1);
        Array to(DType::f32, {count, columns, rows});
        transpose_matrices(from.data(), count, rows, columns, to.data(), test_context());
        for (int64_t i = 0; i < to.view.numel(); ++i) {
          int64_t const row = i % rows, column = i / rows % columns, matrix = i / (rows * columns);
          CHECK(to.data()[i] == from.data()[(matrix * rows + row) * columns + column]);
        }
      }
}

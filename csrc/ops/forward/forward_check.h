// Pieces of check_program.
#pragma once

#include "core/view.h"

namespace leyolo {

struct ProgramSizes {
  bool cuda;
  DType input, values;
  int64_t x, y, arena;  // of one image, in values
  View const* weights;
  int64_t weight_count;
};

// `pixels` pixels of `channels` values with a pitch, from `offset`, must lie inside `size` values.
void check_extent(int64_t step, char const* what, int64_t offset, int64_t pitch, int64_t pixels, int64_t channels,
                  int64_t size);
// What step `i` computes, wherever it reads and writes; that it reads the image or the arena; that it writes the arena
// or the result.
void check_shape(int64_t i, int64_t const* s, ProgramSizes const& sizes);
void check_input(int64_t i, int64_t const* s, ProgramSizes const& sizes);
void check_output(int64_t i, int64_t const* s, ProgramSizes const& sizes);

// The block whose row is `block`, step `first` of `steps`. Returns the number of steps in it.
int64_t check_block(int64_t first, int64_t steps, int64_t const* block, ProgramSizes const& sizes);

}  // namespace leyolo

// Pieces of forward_cuda.
#pragma once

#include "core/context.h"
#include "ops/forward/forward.h"

namespace leyolo {

struct Batch {
  char* input;
  DType input_type, values;
  char *arena, *output;
  int64_t images, x_size, arena_size, y_size;
  View const* weights;
};

// Where a step reads or writes, and how far the next image is.
struct Place {
  char* data;
  DType type;
  int64_t image;
};

inline Place place(int64_t space, int64_t offset, Batch const& b) {
  if (space == kInput) return {b.input + offset * size_of(b.input_type), b.input_type, b.x_size};
  if (space == kOutput) return {b.output + offset * size_of(DType::f32), DType::f32, b.y_size};
  return {b.arena + offset * size_of(b.values), b.values, b.arena_size};
}
inline Place input_of(int64_t const* s, Batch const& b) { return place(s[kXSpace], s[kXOffset], b); }
inline Place output_of(int64_t const* s, Batch const& b) { return place(s[kYSpace], s[kYOffset], b); }
inline void const* residual_of(int64_t const* s, Batch const& b) {
  return s[kResidualOffset] < 0 ? nullptr : b.arena + s[kResidualOffset] * size_of(b.values);
}

// Runs the block whose row is `block`. Returns the number of steps in it.
int64_t block_step(int64_t const* block, Batch const& b, Context const& context);

}  // namespace leyolo

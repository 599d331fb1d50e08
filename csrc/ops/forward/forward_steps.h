// One step of a program, ready to run, and the check of all of them.
#pragma once

#include "ops/forward/forward.h"

namespace leyolo {

struct Memory {
  char const* input;
  float* arena;
  float* output;
  View const* weights;
};

// Throws unless every step stays inside the sizes (of one image, in values) and fits the ones around it.
void check_program(View program, DType input, int64_t x_size, int64_t y_size, int64_t arena_size, View const* weights,
                   int64_t weight_count);

// Runs the step at `row`, or the whole chain that starts there.
void run_step(int64_t const* row, Memory const& memory, Context const& context);

}  // namespace leyolo

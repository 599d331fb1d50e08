// One step of a program, ready to run, and the check of all of them.
#pragma once

#include "ops/forward/forward.h"

namespace leyolo {

struct Memory {
  char const* input;
  DType input_type;  // float32 or uint8
  char* arena;
  DType values;  // of the arena: float32 or bfloat16
  float* output;
  View const* weights;
};

// Throws unless every step stays inside the sizes (of one image, in values) and fits the ones around it.
void check_program(View program, Device device, DType input, DType values, int64_t x_size, int64_t y_size,
                   int64_t arena_size, View const* weights, int64_t weight_count);

// What the steps of a Step::block are together: its first `kChainSteps` rows must exist.
enum class Block { bottleneck, head, pools };
constexpr int kHeadSteps = 5;  // of one level
Block block_kind(int64_t const* block);

// Runs the step at `row`, or the whole chain that starts there.
void run_step(int64_t const* row, Memory const& memory, Context const& context);

// The steps that depend on the type of the arena's values. `s`: the step's row; x and y: its maps.
struct StepKernels {
  void (*unit)(int64_t const* s, Memory const& memory, char const* x, char* y, int64_t begin, int64_t end);
  // Convolutions: output rows [begin, end), in this thread.
  void (*band)(int64_t const* s, Memory const& memory, char const* x, char* y, int64_t begin, int64_t end);
  // Convolutions and pools.
  void (*image)(int64_t const* s, Memory const& memory, char const* x, char* y, Context const& context);
};
extern StepKernels const float_steps, bf16_steps;

// A checked program; every image of the batch has an arena of its own, or they take turns.
void forward_cuda(View x, View program, View const* weights, View arena, int64_t arena_size, View y,
                  Context const& context);

}  // namespace leyolo

// A whole network in one call: a list of fused steps over one arena. Nothing is copied for a concatenation: its
// producers write into slices of one buffer (a pixel pitch larger than their channels). The images of a batch go one
// after another, or one per thread.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

// One step per row of the program, int64. Offsets count float32 values; `x` lies in the input image when x_space is
// kInput, else in the arena; `y` in the output image when y_space is kOutput. Weights are packed (conv2d_pack,
// depthwise_pack), one array per layer.
enum StepField : int {
  kKind,  // Step
  kXSpace,
  kXOffset,
  kXPitch,
  kHeight,
  kWidth,
  kInChannels,
  kYSpace,
  kYOffset,
  kYPitch,
  kOutHeight,
  kOutWidth,
  kOutChannels,
  kKernel,
  kStride,
  kPadding,
  kActivation,
  kResidualOffset,  // in the arena; -1: none
  kResidualPitch,
  kWeight,  // index into the weights; -1: none
  kStepFields
};
enum class Step : int64_t { conv2d = 0, depthwise = 1, max_pool = 2, upsample2x = 3 };
enum Space : int64_t { kArena = 0, kInput = 1, kOutput = 2 };

// Checks every step against the sizes before the first one runs: a wrong program is an error, never a wild write.
void forward(View x /*[N, H, W, C] f32*/, View program /*[steps, kStepFields] i64, CPU*/, View const* weights,
             int64_t weight_count, View arena /*f32: arena_size values, times `workers` for images side by side*/,
             int64_t arena_size, View y /*[N, ...] f32*/, Context const& context);

}  // namespace leyolo

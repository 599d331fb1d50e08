// Depthwise 2-D convolution of bfloat16 maps with float32 accumulation; for `forward`. Only where has_bf16_dot().
#pragma once

#include "core/context.h"
#include "core/view.h"
#include "ops/depthwise_conv2d/depthwise_bf16_args.h"

namespace leyolo {

// Weights rounded to bfloat16, in pairs of taps, followed by the float32 bias, as 32-bit words; once per layer.
// `activation` is the one that the layer will run with: a SiLU is prepared for here (kSiluScale).
int64_t depthwise_bf16_packed_size(int64_t channels, int64_t kernel);
void depthwise_bf16_pack(View weight /*[C, 1, k, k] f32*/, View bias /*[C] f32 or absent*/, Activation activation,
                         View packed /*i32*/);

// One image with any pixel pitch; a.weight and a.bias point into `packed`.
void depthwise_bf16_image(DepthwiseBf16Args const& a, Context const& context);
void depthwise_bf16_band(DepthwiseBf16Args const& a, int64_t begin, int64_t end);  // output rows, in this thread
float const* depthwise_bf16_packed_bias(unsigned const* packed, int64_t channels, int64_t kernel);

}  // namespace leyolo

// The inverted bottleneck of MobileNetV2 (Sandler et al. 2018, figure 3b) with folded BatchNorm, in one call:
// y = project(act(depthwise(act(expand(x))))) [+ x], where expand and project are 1x1 convolutions with bias.
// Staged, one convolution after the other over whole maps; or, where a map between them would not stay in the cache
// (core/stream_model.h), row by row. Both give the same bits.
#pragma once

#include "core/activation.h"
#include "core/context.h"
#include "core/stream_model.h"
#include "core/view.h"

namespace leyolo {

struct InvertedBottleneck {
  int64_t stride = 1;
  Activation activation = Activation::silu;  // after expand and depthwise; the project convolution has none
  bool residual = false;                     // needs stride 1 and as many output as input channels
  StreamModel model = {};                    // decides between the two ways
};

// Padding is k / 2. Absent expand_weight: the depthwise convolution reads x (M equals C). The border of the depthwise
// input is zero after the expand activation.
void inverted_bottleneck(View x /*[N, H, W, C] f32, f16, bf16*/, View expand_weight /*[M, C, 1, 1] or absent*/,
                         View expand_bias /*[M] or absent*/, View depthwise_weight /*[M, 1, k, k]*/,
                         View depthwise_bias /*[M]*/, View project_weight /*[O, M, 1, 1]*/, View project_bias /*[O]*/,
                         View y /*[N, H', W', O]*/, View workspace /*bytes*/, InvertedBottleneck const& params,
                         Context const& context);

// Bytes, for the same arguments.
int64_t inverted_bottleneck_workspace(View x, View expand_weight, View depthwise_weight, View project_weight, View y,
                                      InvertedBottleneck const& params, Context const& context);

// What the model decides: rows of y that are made at a time, 0: staged.
int64_t inverted_bottleneck_band(View x, View expand_weight, View depthwise_weight, View project_weight, View y,
                                 InvertedBottleneck const& params, Context const& context);

}  // namespace leyolo

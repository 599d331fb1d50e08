// The inverted bottleneck of MobileNetV2 (Sandler et al. 2018, figure 3b) in training, every convolution followed by
// batch norm with the statistics of the batch (Ioffe and Szegedy 2015, algorithm 1):
//   z1 = expand(x), z2 = depthwise(act(norm(z1))), z3 = project(act(norm(z2))), y = norm(z3) [+ x].
// Only the z are kept. What lies between them is made again where it is read. The gradients of the convolutions' biases
// are zero, since the norms take them away again.
#pragma once

#include "core/activation.h"
#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct InvertedBottleneckNorm {
  int64_t stride = 1;
  Activation activation = Activation::silu;
  bool residual = false;  // needs stride 1 and as many output as input channels
  double eps = 1e-5;
};

constexpr int kBottleneckLayers = 3;  // expand, depthwise, project

// Weights, maps or gradients of the layers; absent expansion: the depthwise convolution reads x (M equals C).
struct BottleneckLayers {
  View expand, depthwise, project;
};
struct BottleneckNorms {
  View weight[kBottleneckLayers], bias[kBottleneckLayers];  // each [channels of the layer] or absent
};

// Padding is k / 2. Maps, weights and biases of the convolutions are of one type; norms and statistics are float32.
// `statistics` [2, M + M + O] (without the first M where nothing is expanded): the means and the
// biased variances of the z, written.
void inverted_bottleneck_norm(View x /*[N, H, W, C] f32; on CUDA also f16, bf16*/,
                              BottleneckLayers const& weights /*[M, C, 1, 1], [M, 1, k, k],
[O, M, 1, 1]*/, BottleneckLayers const& biases /*[M], [M], [O], each may be absent*/, BottleneckNorms const& norms,
                              View y /*[N, H', W', O]*/,
                              BottleneckLayers const& z /*[N, H, W, M], [N, H', W', M], as y*/, View statistics,
                              View workspace /*bytes*/, InvertedBottleneckNorm const& params, Context const& context);

// Gradients of sum(y * gradient). `norm_gradients`: as the statistics, of weights and biases of the norms.
void inverted_bottleneck_norm_backward(View gradient /*as y*/, View x, BottleneckLayers const& weights,
                                       BottleneckNorms const& norms, BottleneckLayers const& z, View statistics,
                                       View x_gradient /*as x*/,
                                       BottleneckLayers const& weight_gradients /*as weights*/, View norm_gradients,
                                       View workspace /*bytes*/, InvertedBottleneckNorm const& params,
                                       Context const& context);

// Bytes, for the same arguments and `context.threads`.
int64_t inverted_bottleneck_norm_workspace(View x, BottleneckLayers const& weights, View y,
                                           InvertedBottleneckNorm const& params, Context const& context, bool backward);

void inverted_bottleneck_norm_cpu(View x, BottleneckLayers const& weights, BottleneckLayers const& biases,
                                  BottleneckNorms const& norms, View y, BottleneckLayers const& z, View statistics,
                                  View workspace, InvertedBottleneckNorm const& params, Context const& context);
void inverted_bottleneck_norm_cuda(View x, BottleneckLayers const& weights, BottleneckLayers const& biases,
                                   BottleneckNorms const& norms, View y, BottleneckLayers const& z, View statistics,
                                   View workspace, InvertedBottleneckNorm const& params, Context const& context);
void inverted_bottleneck_norm_backward_cpu(View gradient, View x, BottleneckLayers const& weights,
                                           BottleneckNorms const& norms, BottleneckLayers const& z, View statistics,
                                           View x_gradient, BottleneckLayers const& weight_gradients,
                                           View norm_gradients, View workspace, InvertedBottleneckNorm const& params,
                                           Context const& context);
void inverted_bottleneck_norm_backward_cuda(View gradient, View x, BottleneckLayers const& weights,
                                            BottleneckNorms const& norms, BottleneckLayers const& z, View statistics,
                                            View x_gradient, BottleneckLayers const& weight_gradients,
                                            View norm_gradients, View workspace, InvertedBottleneckNorm const& params,
                                            Context const& context);
int64_t inverted_bottleneck_norm_workspace_cpu(View x, BottleneckLayers const& weights, View y,
                                               InvertedBottleneckNorm const& params, Context const& context,
                                               bool backward);
int64_t inverted_bottleneck_norm_workspace_cuda(View x, BottleneckLayers const& weights, View y,
                                                InvertedBottleneckNorm const& params, bool backward);

}  // namespace leyolo

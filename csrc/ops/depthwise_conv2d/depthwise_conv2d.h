// Depthwise 2-D convolution with bias and activation, NHWC, and its gradients.
#pragma once

#include "core/context.h"
#include "core/conv_size.h"
#include "core/view.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_args.h"

namespace leyolo {

struct Depthwise {
  int64_t stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};  // height, width
  Activation activation = Activation::none;
  bool planar = false;  // x and y lie in memory as [N, C, H, W]; their Views say [N, H, W, C] all the same
};

// y[n, i, j, c] = activation(bias[c] + sum over ky, kx of x[n, i s - p + ky d, j s - p + kx d, c] weight[c, 0, ky, kx])
void depthwise_conv2d(View x /*[N, H, W, C] f32, f64, f16, bf16*/, View weight /*[C, 1, kh, kw]*/,
                      View bias /*[C] or absent*/, View y /*[N, H', W', C]*/,
                      View workspace /*bytes: depthwise_conv2d_workspace*/, Depthwise const& params,
                      Context const& context);

// Gradients of sum(y * gradient) with respect to x, weight and bias (each may be absent: not wanted).
void depthwise_conv2d_backward(View gradient /*as y*/, View x, View weight, View bias, View x_gradient /*as x*/,
                               View weight_gradient /*as weight*/, View bias_gradient /*[C]*/, View workspace,
                               Depthwise const& params, Context const& context);

void depthwise_conv2d_cpu(View x, View weight, View bias, View y, View workspace, Depthwise const&, Context const&);
void depthwise_conv2d_cuda(View x, View weight, View bias, View y, Depthwise const&, Context const&);
void depthwise_conv2d_backward_cpu(View gradient, View x, View weight, View bias, View x_gradient, View weight_gradient,
                                   View bias_gradient, View workspace, Depthwise const&, Context const&);
void depthwise_conv2d_backward_cuda(View gradient, View x, View weight, View bias, View x_gradient,
                                    View weight_gradient, View bias_gradient, View workspace, Depthwise const&,
                                    Context const&);

// Bytes; for the backward pass with y as the gradient.
int64_t depthwise_conv2d_workspace(View x, View weight, View y);
int64_t depthwise_conv2d_backward_workspace(View x, View weight, View y, Depthwise const& params);
int64_t depthwise_conv2d_backward_workspace_cuda(View x, View weight, View y, Depthwise const& params);

int64_t depthwise_padded(int64_t channels);  // to whole vectors
// Weights in the order of this machine's kernels, followed by the bias.
int64_t depthwise_packed_size(int64_t channels, int64_t kernel_h, int64_t kernel_w);
void depthwise_pack(View weight, View bias, View packed /*f32*/);

// Output pixels of a row of `out_width` that lie in registers at the same time, one vector of channels each (where
// there are enough registers with those of the row below).
int depthwise_strip(int64_t out_width);

// The kernel itself, for one image with any pixel pitch.
void depthwise_image(DepthwiseArgs const& a, Context const& context);
void depthwise_band(DepthwiseArgs const& a, int64_t begin, int64_t end);  // output rows, in this thread

// Gradients for one image, in this thread: of input rows; and of the weights, added to, from output rows.
void depthwise_x_gradient_band(DepthwiseBackwardArgs const& b, float const* mirrored, int64_t begin, int64_t end);
void depthwise_weight_gradient_band(DepthwiseBackwardArgs const& b, int64_t begin, int64_t end);

// With stride 1 and an output of the input's size the gradient of x is the convolution of the gradient with the taps of
// the packed weights in reverse order, without bias.
bool depthwise_mirrors(DepthwiseArgs const& a);
void depthwise_mirror(float const* packed, float* to, int64_t taps, int64_t padded);

}  // namespace leyolo

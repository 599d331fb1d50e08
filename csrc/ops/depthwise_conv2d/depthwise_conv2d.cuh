// What the CUDA kernels of depthwise_conv2d share.
#pragma once

#include "core/activation.cuh"
#include "core/cuda.cuh"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"

namespace leyolo {

constexpr int kMarchThreads = 128;  // of a block of the marching kernels

// Sizes as the kernels take them; offsets beyond an image are 64 bits wide.
struct DepthwiseSizes {
  int images, height, width, out_height, out_width, channels;
  int kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  bool planar;  // memory is [N, C, H, W]
  Activation activation;
};

inline DepthwiseSizes depthwise_sizes(View x, View weight, View y, Depthwise const& p) {
  return {int(x.shape[0]),   int(x.shape[1]),      int(x.shape[2]),      int(y.shape[1]),    int(y.shape[2]),
          int(x.shape[3]),   int(weight.shape[2]), int(weight.shape[3]), int(p.stride[0]),   int(p.stride[1]),
          int(p.padding[0]), int(p.padding[1]),    int(p.dilation[0]),   int(p.dilation[1]), p.planar,
          p.activation};
}

// y = activation(conv(x) + bias), or with a gradient given: y = gradient * activation'(conv(x) + bias).
void depthwise_forward_cuda(View x, View weight, View bias, View gradient, View y, Depthwise const& params,
                            Context const& context);

// 10 * kernel + stride where the marching kernels of this op apply: square, not dilated, even channels; else 0.
int depthwise_march_kind(DepthwiseSizes const& s);

}  // namespace leyolo

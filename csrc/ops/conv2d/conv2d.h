// Dense 2-D convolution (1x1 and k x k) with bias, activation and residual in its epilogue, NHWC, float32.
#pragma once

#include "core/context.h"
#include "core/conv_size.h"
#include "core/view.h"
#include "ops/conv2d/conv2d_args.h"

namespace leyolo {

struct Conv2d {
  int64_t stride = 1, padding = 0;
  Activation activation = Activation::none;
};

// y = activation(conv(x, weight) + bias) + residual
void conv2d(View x /*[N, H, W, C] f32, f16, bf16*/, View packed /*conv2d_pack*/, View residual /*as y, or absent*/,
            View y /*[N, H', W', O] as x*/, View workspace /*f32, conv2d_workspace*/, int64_t kernel,
            Conv2d const& params, Context const& context);

// float32 values that conv2d needs beside its arguments (for the conversion of half inputs; 0 for float32).
int64_t conv2d_workspace(View x, View y, View residual);

// Weights in the order of this machine's kernels, followed by the bias; once per layer. On CUDA in the order of
// conv2d_cuda.h, and only for layers of the same type.
int64_t conv2d_packed_size(int64_t out_channels, int64_t in_channels, int64_t kernel);  // for the CPU
int64_t conv2d_packed_size(View weight);                                                // where it lies
void conv2d_pack(View weight /*[O, C, k, k] f32, f16, bf16*/, View bias /*[O] or absent*/, View packed /*f32*/,
                 Context const& context = {});

// The register tile that holds vector `vector` of the output channels; 0 x 0 behind the last one.
struct Conv2dTile {
  int pixels, vectors;
};
Conv2dTile conv2d_tile(int64_t out_channels, int64_t vector);

// The kernel itself, for one image with any pixel pitch; a.weight and a.bias point into `packed`.
void conv2d_image(Conv2dArgs const& a, Context const& context);
void conv2d_band(Conv2dArgs const& a, int64_t begin, int64_t end);  // output rows, in this thread
float const* conv2d_packed_bias(float const* packed, int64_t out_channels, int64_t in_channels, int64_t kernel);

}  // namespace leyolo

// Shared with conv2d.simd.cpp, hence no standard header.
#pragma once

#include "core/activation.h"

namespace leyolo {

// One image, NHWC with any pixel pitch, so that layers can read and write slices of a concatenated buffer.
struct Conv2dArgs {
  float const* x;         // [height, width, in_channels]
  float const* weight;    // packed: per tile of output vectors [kernel][kernel][in_channels][vectors * lanes]
  float const* bias;      // out_channels, padded to whole vectors
  float const* residual;  // [out_height, out_width, out_channels] or null; added after the activation; never y itself
  float* y;               // [out_height, out_width, out_channels]
  long long height, width, out_height, out_width;
  long long x_pitch, y_pitch, residual_pitch;  // floats from pixel to pixel; rows follow without a gap
  int in_channels, out_channels, kernel, stride, padding;
  Activation activation;
  // 1x1, stride 1 only: what an upsampled map contributes to the sum, [out_height / 2, out_width / 2, out_channels] or
  // null; added before bias and activation, that of a pixel from half its row and column. Height and width are even.
  float const* addend = nullptr;
  long long addend_pitch = 0;
};

// How the vectors of the output channels are cut into register tiles; packing and kernel must agree.
struct Conv2dTiles {
  int count, wide, narrow_width;  // the first `wide` tiles have narrow_width + 1 vectors, the others narrow_width

  __attribute__((always_inline)) static constexpr Conv2dTiles of(int out_channels, int lanes) {
    int const vectors = (out_channels + lanes - 1) / lanes;
#if defined(__aarch64__)
    int const most = 4;  // as many registers as AVX-512
#else
    int const most = lanes == 16 ? 4 : lanes == 8 ? 3 : 2;
#endif
    int const count = (vectors + most - 1) / most;
    return {count, vectors % count, vectors / count};
  }
  __attribute__((always_inline)) constexpr int width(int tile) const { return narrow_width + (tile < wide ? 1 : 0); }
};

}  // namespace leyolo

// Shared with conv2d.bf16.simd.cpp, hence no standard header.
#pragma once

#include "core/activation.h"
#include "ops/conv2d/conv2d_args.h"

namespace leyolo {

// As Conv2dArgs, with bfloat16 maps. Tiles are those of Conv2dTiles for 16 lanes.
struct Conv2dBf16Args {
  unsigned short const* x;         // [height, width, in_channels]
  unsigned const* weight;          // packed: per tile of output vectors [kernel][kernel][pairs][vectors * 16]
  float const* bias;               // out_channels, padded to whole vectors
  unsigned short const* residual;  // [out_height, out_width, out_channels] or null; never y itself
  void* y;                         // [out_height, out_width, out_channels], bfloat16 or (float_y) float32
  long long height, width, out_height, out_width;
  long long x_pitch, y_pitch, residual_pitch;  // values from pixel to pixel; rows follow without a gap
  int in_channels, out_channels, kernel, stride, padding;
  Activation activation;
  bool float_y;
};

}  // namespace leyolo

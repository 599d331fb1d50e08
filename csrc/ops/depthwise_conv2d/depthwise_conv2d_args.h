// Shared with depthwise_conv2d.simd.cpp, hence no standard header.
#pragma once

#include "core/activation.h"

namespace leyolo {

// The first channels of an input, in a map half as high and wide that is read at twice its size (nearest neighbour).
struct DepthwiseLow {
  float const* x = nullptr;  // [height / 2, width / 2, channels]; null: there are none
  float const* weight;       // packed
  float const* bias;
  long long pitch;  // floats from pixel to pixel
  int channels;
};

// One image, NHWC with any pixel pitch; weights and bias padded with zeros to whole vectors of channels.
struct DepthwiseArgs {
  float const* x;       // [height, width, channels]
  float const* weight;  // packed: [vectors of channels, kernel_h, kernel_w, lanes]
  float const* bias;    // [padded channels]
  float* y;             // [out_height, out_width, channels]
  long long height, width, out_height, out_width;
  long long x_pitch, y_pitch;  // floats from pixel to pixel; rows follow without a gap
  int channels, padded;
  int kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  Activation activation;
  DepthwiseLow low = {};  // the input's first channels, and the output's: those above follow them
};

struct DepthwiseBackwardArgs {
  DepthwiseArgs forward;   // y: unused
  float const* pre;        // the gradient before the activation, [out_height, out_width, channels], dense
  float* x_gradient;       // as x, dense, or null
  float* weight_gradient;  // packed as the weight, added to
  float* bias_gradient;    // [padded], added to
};

// Of an output map: some rows, and some vectors of channels.
struct DepthwisePart {
  long long first_row, last_row, first_block, last_block;
};

}  // namespace leyolo

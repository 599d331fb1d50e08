// Shared with depthwise_conv2d.bf16.simd.cpp, hence no standard header.
#pragma once

#include "core/activation.h"

namespace leyolo {

// The first channels of an input, in a map half as high and wide that is read at twice its size (nearest neighbour).
struct DepthwiseBf16Low {
  unsigned short const* x = nullptr;  // [height / 2, width / 2, channels]; null: there are none
  unsigned const* weight;             // packed
  float const* bias;
  long long pitch;  // values from pixel to pixel
  int channels;
};

// One image of bfloat16 maps, NHWC with any pixel pitch; square kernels.
struct DepthwiseBf16Args {
  unsigned short const* x;  // [height, width, channels]
  unsigned const* weight;   // packed: per block of channels [kernel][(kernel + 1) / 2][block] pairs of taps of one row;
                            // the last pair of an odd kernel is zero and the last tap
  float const* bias;        // channels in the order of the blocks, padded
  void* y;                  // [out_height, out_width, channels], bfloat16 or (float_y) float32
  long long height, width, out_height, out_width;
  long long x_pitch, y_pitch;  // values from pixel to pixel; rows follow without a gap
  int channels, kernel, stride, padding;
  Activation activation;
  bool float_y;
  DepthwiseBf16Low low = {};  // the input's first channels, and the output's: those above follow them
};

// Channels go by blocks of 32, and of 16 where at most that many are left; packing and kernel must agree. In a block of
// 32, 16-bit values are unpacked with their neighbours: fours of channels take turns, the even ones first.
struct DepthwiseBf16Blocks {
  __attribute__((always_inline)) static constexpr int size(int left) { return left > 16 ? 32 : 16; }
  // The channel, counted from the start of its block, whose weight lies at `place`.
  __attribute__((always_inline)) static constexpr int channel(int block, int place) {
    return block == 16 ? place : place % 16 / 4 * 8 + place / 16 * 4 + place % 4;
  }
};

}  // namespace leyolo

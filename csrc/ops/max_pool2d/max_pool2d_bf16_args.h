// Shared with max_pool2d.bf16.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// As MaxPool2dArgs, with bfloat16 maps.
struct MaxPool2dBf16Args {
  unsigned short const* x;  // [height, width, channels]
  unsigned short* y;        // [height, width, channels]
  long long height, width;
  long long x_pitch, y_pitch;
  int channels, kernel;
};

}  // namespace leyolo

// Shared with max_pool2d.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

constexpr int kMostPooled = 64;  // a kernel is smaller

// One image, NHWC with any pixel pitch; stride 1, padding kernel / 2 with minus infinity: y has the size of x.
struct MaxPool2dArgs {
  float const* x;  // [height, width, channels]
  float* y;        // [height, width, channels]
  long long height, width;
  long long x_pitch, y_pitch;
  int channels, kernel;
};

}  // namespace leyolo

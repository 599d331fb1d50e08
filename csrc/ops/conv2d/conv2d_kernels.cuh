// What the CUDA kernels of conv2d share.
#pragma once

#include "core/activation.cuh"
#include "core/cuda.cuh"
#include "ops/conv2d/conv2d_cuda.h"

namespace leyolo {

struct Conv2dSizes {
  int64_t x_image, y_image, residual_image;
  int height, width, out_width, area;  // area: of the output
  int x_pitch, y_pitch, residual_pitch;
  int in_channels, out_channels, kernel, stride, padding;
  int depth, row;  // kernel * kernel * in_channels, and of a row of weights in memory
  int pixels;      // of all images
  int channel_tiles;
  Activation activation;
  bool float_y, wide_y;  // y is float32; y and residual consist of aligned vectors of 8 values
};

inline Conv2dSizes conv2d_sizes(Conv2dImages const& a) {
  int const depth = a.kernel * a.kernel * a.in_channels;
  return {a.x_image,
          a.y_image,
          a.residual_image,
          a.height,
          a.width,
          a.out_width,
          a.out_height * a.out_width,
          a.x_pitch,
          a.y_pitch,
          a.residual_pitch,
          a.in_channels,
          a.out_channels,
          a.kernel,
          a.stride,
          a.padding,
          depth,
          int(conv2d_cuda_row(depth)),
          int(a.pixels()),
          0,
          a.activation,
          a.y_type == DType::f32,
          false};
}

// A pixel of the output: where its window begins in x.
struct Conv2dPixel {
  int64_t origin;  // of the window, in values: may lie before the image
  int top, left;   // of the window; the top of a pixel that does not exist lies far below the image

  Conv2dPixel() = default;
  __device__ __forceinline__ Conv2dPixel(int pixel, Conv2dSizes const& s) {
    int const image = pixel / s.area, rest = pixel - image * s.area, row = rest / s.out_width;
    top = pixel < s.pixels ? row * s.stride - s.padding : 1 << 29;
    left = (rest - row * s.out_width) * s.stride - s.padding;
    origin = image * s.x_image + (int64_t(row * s.stride - s.padding) * s.width + left) * s.x_pitch;
  }
};

// Value `at` of the window of a pixel; 0 outside the image, where nothing is read.
template <class T, class X>
__device__ __forceinline__ T conv2d_value(X const* x, Conv2dPixel const& p, int at, Conv2dSizes const& s) {
  int const tap = at / s.in_channels, dy = tap / s.kernel, dx = tap - dy * s.kernel;
  bool const inside =
      at < s.depth && unsigned(p.top + dy) < unsigned(s.height) && unsigned(p.left + dx) < unsigned(s.width);
  if (!inside) return T(0.0f);
  X const value = x[p.origin + (int64_t(dy) * s.width + dx) * s.x_pitch + (at - tap * s.in_channels)];
  if constexpr (std::is_same_v<X, uint8_t>)
    return T(float(value) * (1.0f / 255.0f));
  else
    return T(value);
}

void conv2d_float_cuda(Conv2dImages const& a, Context const& context);
void conv2d_tf32_cuda(Conv2dImages const& a, Context const& context);

}  // namespace leyolo

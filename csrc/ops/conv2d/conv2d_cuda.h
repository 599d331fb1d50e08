// The CUDA twin of conv2d: a batch at a time, NHWC with any pixel pitch; float32, float16 and bfloat16 maps, sums in
// float32.
#pragma once

#include "core/activation.h"
#include "core/context.h"
#include "core/view.h"
#include "ops/conv2d/conv2d.h"

namespace leyolo {

struct Conv2dImages {
  void const* x;         // [height, width, in_channels]
  void const* packed;    // conv2d_pack on CUDA
  void const* residual;  // [out_height, out_width, out_channels] or null; added after the activation; never y itself
  void* y;
  DType x_type;  // that of the layer; or of an image: float32 0..1, or bytes that become 0..1
  DType y_type;  // that of the layer, or float32
  int64_t images, x_image, y_image, residual_image;  // values from image to image
  int height, width, out_height, out_width;
  int x_pitch, y_pitch, residual_pitch;  // values from pixel to pixel; rows follow without a gap
  int in_channels, out_channels, kernel, stride, padding;
  Activation activation;
  bool tf32 = false;  // float32 maps, products in TF32; the weights are rounded to it

  int64_t pixels() const { return images * out_height * out_width; }
};

// `type`: of the weights, of the residual and of the arithmetic's inputs.
void conv2d_images_cuda(Conv2dImages const& a, DType type, Context const& context);

// Packed: the bias in float32, padded to whole fours, and behind it [O, k * k * C] in the storage type, where rows are
// padded with zeros to whole eights. In float32 words.
constexpr int64_t conv2d_cuda_row(int64_t values) { return (values + 7) / 8 * 8; }
constexpr int64_t conv2d_cuda_bias(int64_t out_channels) { return (out_channels + 3) / 4 * 4; }
constexpr int64_t conv2d_cuda_packed_size(int64_t out, int64_t in, int64_t kernel, DType type) {
  return conv2d_cuda_bias(out) + out * conv2d_cuda_row(kernel * kernel * in) * size_of(type) / 4;
}
void conv2d_pack_cuda(View weight, View bias, View packed, Context const& context);

void conv2d_cuda(View x, View packed, View residual, View y, int64_t kernel, Conv2d const& params,
                 Context const& context);

}  // namespace leyolo

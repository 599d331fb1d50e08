// Depthwise convolution on CUDA as a step of `forward`: a batch at a time, NHWC with any pixel pitch, packed weights.
#pragma once

#include "core/activation.h"
#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct DepthwiseImages {
  void const* x;                     // [height, width, channels]
  void const* packed;                // depthwise_pack_cuda
  void* y;                           // [out_height, out_width, channels]
  DType y_type;                      // that of the layer, or float32
  int64_t images, x_image, y_image;  // values from image to image
  int height, width, out_height, out_width;
  int x_pitch, y_pitch;  // values from pixel to pixel; rows follow without a gap
  int channels, kernel, stride, padding;
  Activation activation;
};

void depthwise_images_cuda(DepthwiseImages const& a, DType type, Context const& context);

// Packed: the bias in float32, padded to whole fours, and behind it [k * k, C] in the storage type, where C is padded
// with zeros to whole eights. In float32 words.
constexpr int64_t depthwise_cuda_row(int64_t channels) { return (channels + 7) / 8 * 8; }
constexpr int64_t depthwise_cuda_bias(int64_t channels) { return (channels + 3) / 4 * 4; }
constexpr int64_t depthwise_cuda_packed_size(int64_t channels, int64_t kernel, DType type) {
  return depthwise_cuda_bias(channels) + kernel * kernel * depthwise_cuda_row(channels) * size_of(type) / 4;
}
void depthwise_pack_cuda(View weight /*[C, 1, k, k]*/, View bias /*[C] or absent*/, View packed /*f32*/,
                         Context const& context);

}  // namespace leyolo

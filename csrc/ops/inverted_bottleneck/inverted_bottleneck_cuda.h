// The CUDA twin: one kernel for the whole block in float16 and bfloat16, a batch at a time, NHWC with any pixel pitch.
#pragma once

#include "core/context.h"
#include "core/view.h"
#include "ops/inverted_bottleneck/inverted_bottleneck.h"

namespace leyolo {

struct BottleneckShape {
  int64_t images, out_height, out_width;
  int in_channels, middle_channels, out_channels, kernel, stride;
  bool expands;
};

// What a block of threads makes: `rows` x `columns` pixels of the output with `warps` warps, in `shared` bytes of
// shared memory. 0 warps: the kernel does not take these sizes.
struct BottleneckTile {
  int warps, rows, columns;
  int64_t shared;
};

// The tile with the least work on a GPU with as many multiprocessors, each with `shared` bytes for a block.
BottleneckTile bottleneck_tile(BottleneckShape const& shape, int64_t shared, int multiprocessors);

// Bytes of a tile's shared memory.
int64_t bottleneck_shared(BottleneckShape const& shape, int warps, int rows, int columns);

// Whether the kernel takes a convolution of an image of `channels` in front of the block: its windows are one slice,
// and its weights fit where the expanded map will be.
bool bottleneck_stem_fits(BottleneckShape const& shape, int kernel, int channels);

// The convolution of an image [height, width, channels], dense, in front of a block, with the block's activation.
struct BottleneckStemLayer {
  void const* packed = nullptr;  // conv2d_pack on CUDA; null: there is none
  DType type = DType::f32;       // of the image: that of the block; float32 0..1; or bytes that become 0..1
  int height = 0, width = 0, channels = 0, kernel = 0, stride = 0, padding = 0;
};

struct BottleneckImages {
  void const* x;                                     // [height, width, in_channels]; with a stem, the image
  void const* expand;                                // conv2d_pack on CUDA, or null
  void const* depthwise;                             // depthwise_pack_cuda
  void const* project;                               // conv2d_pack on CUDA
  void const* residual;                              // as y, or null
  void* y;                                           // [out_height, out_width, out_channels]
  int64_t images, x_image, y_image, residual_image;  // values from image to image
  int height, width, out_height, out_width;
  int x_pitch, y_pitch, residual_pitch;  // values from pixel to pixel; rows follow without a gap
  int in_channels, middle_channels, out_channels, kernel, stride, padding;
  Activation activation;  // of the first two convolutions
  // The first `low_channels` channels of x are those of `low` [height / 2, width / 2, low_channels], nearest neighbour.
  void const* low = nullptr;
  int64_t low_image = 0;
  int low_pitch = 0, low_channels = 0;
  BottleneckStemLayer stem{};

  BottleneckShape shape() const {
    return {images,       out_height, out_width, in_channels,      middle_channels,
            out_channels, kernel,     stride,    expand != nullptr};
  }
};

// An error where the kernel does not take these sizes.
void bottleneck_images_cuda(BottleneckImages const& a, DType type, Context const& context);
// On the device that is current.
BottleneckTile bottleneck_tile_here(BottleneckShape const& shape);

int64_t inverted_bottleneck_cuda_workspace(View x, View expand_weight, View depthwise_weight, View project_weight,
                                           View y, InvertedBottleneck const& params);
void inverted_bottleneck_cuda(View x, View expand_weight, View expand_bias, View depthwise_weight, View depthwise_bias,
                              View project_weight, View project_bias, View y, View workspace,
                              InvertedBottleneck const& params, Context const& context);

}  // namespace leyolo

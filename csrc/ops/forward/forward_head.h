// The detection head on CUDA as one kernel for all its levels and both branches of each.
#pragma once

#include "core/activation.h"
#include "core/context.h"
#include "core/view.h"

namespace leyolo {

// A 1x1 convolution, two depthwise 3x3 convolutions, a 1x1 convolution, for channels that nothing mixes with others.
// Weights are packed as in conv2d_cuda.h and depthwise_images.h; those of the first three hold the channels of both
// branches side by side.
struct HeadBranch {
  void const *x, *expand, *first, *second, *project;
  float* y;                                       // [height, width, out_channels]
  int64_t x_image, y_image;                       // values from image to image
  int height, width, x_pitch, y_pitch;            // values from pixel to pixel; rows follow without a gap
  int in_channels, middle_channels;               // of x; of this branch
  int out_channels, first_channel, all_channels;  // this branch's middle ones begin there, of so many
  Activation activation;                          // of the first three
};

constexpr int kMostHeadBranches = 8;

// What a block of threads makes, and the bytes of shared memory that it takes; 0 rows: the kernel does not take it.
struct HeadTile {
  int rows, columns;
  int64_t shared;
};
HeadTile head_tile(int64_t images, int height, int width, int in_channels, int out_channels, int64_t shared,
                   int multiprocessors);
// Whether there is a tile, whatever the sizes of the maps.
bool head_fits(int in_channels, int middle_channels, int out_channels, int64_t shared);

// An error where the kernel does not take these sizes.
void head_images_cuda(HeadBranch const* branches, int count, int64_t images, DType type, Context const& context);

}  // namespace leyolo

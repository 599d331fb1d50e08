// Max pooling with stride 1 and padding kernel / 2 on CUDA, as a step of `forward`: a batch, NHWC with any pixel pitch.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct MaxPool2dImages {
  void const* x;                     // [height, width, channels]
  void* y;                           // [height, width, channels]
  int64_t images, x_image, y_image;  // values from image to image
  int height, width, x_pitch, y_pitch, channels, kernel;
};

// Three pools of kernel 5, each of the one before it, as one kernel: all maps [height, width, channels] with the
// same pitch and distance from image to image, in whole, aligned vectors of 16 bytes.
struct MaxPoolChain {
  void const* x;
  void* y;                      // of the first pool
  int64_t next, images, image;  // values from one pool's y to the next one's, and from image to image
  int height, width, pitch, channels;
};
void max_pool_chain_cuda(MaxPoolChain const& a, DType type, Context const& context);

void max_pool2d_images_cuda(MaxPool2dImages const& a, DType type, Context const& context);

}  // namespace leyolo

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

void max_pool2d_images_cuda(MaxPool2dImages const& a, DType type, Context const& context);

}  // namespace leyolo

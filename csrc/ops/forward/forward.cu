// Every step is one kernel for all images that have an arena.
#include "core/vectors.cuh"
#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/forward/forward_cuda.h"
#include "ops/forward/forward_steps.h"
#include "ops/max_pool2d/max_pool2d_cuda.h"

namespace leyolo {

namespace {

void conv2d_step(int64_t const* s, Batch const& b, Context const& context) {
  Place const x = input_of(s, b), y = output_of(s, b);
  conv2d_images_cuda({x.data,
                      b.weights[s[kWeight]].data,
                      residual_of(s, b),
                      y.data,
                      x.type,
                      y.type,
                      b.images,
                      x.image,
                      y.image,
                      b.arena_size,
                      int(s[kHeight]),
                      int(s[kWidth]),
                      int(s[kOutHeight]),
                      int(s[kOutWidth]),
                      int(s[kXPitch]),
                      int(s[kYPitch]),
                      int(s[kResidualPitch]),
                      int(s[kInChannels]),
                      int(s[kOutChannels]),
                      int(s[kKernel]),
                      int(s[kStride]),
                      int(s[kPadding]),
                      Activation(s[kActivation]),
                      s[kTf32] != 0},
                     b.values, context);
}

void depthwise_step(int64_t const* s, Batch const& b, Context const& context) {
  Place const x = input_of(s, b), y = output_of(s, b);
  depthwise_images_cuda(
      {x.data, b.weights[s[kWeight]].data, y.data, y.type, b.images, x.image, y.image, int(s[kHeight]), int(s[kWidth]),
       int(s[kOutHeight]), int(s[kOutWidth]), int(s[kXPitch]), int(s[kYPitch]), int(s[kInChannels]), int(s[kKernel]),
       int(s[kStride]), int(s[kPadding]), Activation(s[kActivation])},
      b.values, context);
}

struct Upsample {
  int64_t x_image, y_image;
  int height, width, x_pitch, y_pitch, vectors;  // in vectors
};

// Nearest neighbour; a thread reads one vector and writes it four times.
template <class V>
__global__ void __launch_bounds__(kThreads)
    upsample2x(V const* __restrict__ x, V* __restrict__ y, Upsample s, int64_t threads) {
  int64_t const id = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (id >= threads) return;
  int64_t const pixel = id / s.vectors, line = pixel / s.width, image = line / s.height;
  int const vector = int(id - pixel * s.vectors), column = int(pixel - line * s.width),
            row = int(line - image * s.height);
  V const value = x[image * s.x_image + (int64_t(row) * s.width + column) * s.x_pitch + vector];
  V* const to = y + image * s.y_image + vector;
#pragma unroll
  for (int i = 0; i < 4; ++i) to[((2 * row + i / 2) * int64_t(2 * s.width) + 2 * column + i % 2) * s.y_pitch] = value;
}

template <class V>
void upsample_vectors(int64_t const* s, Place const& x, Place const& y, Batch const& b, Context const& context) {
  int const width = int(sizeof(V) / size_t(size_of(b.values)));
  Upsample const sizes{x.image / width,
                       y.image / width,
                       int(s[kHeight]),
                       int(s[kWidth]),
                       int(s[kXPitch]) / width,
                       int(s[kYPitch]) / width,
                       int(s[kInChannels]) / width};
  int64_t const threads = b.images * sizes.height * sizes.width * sizes.vectors;
  LEYOLO_LAUNCH(upsample2x<V>, blocks(threads), kThreads, 0, context.stream, reinterpret_cast<V const*>(x.data),
                reinterpret_cast<V*>(y.data), sizes, threads);
}

void upsample_step(int64_t const* s, Batch const& b, Context const& context) {
  Place const x = input_of(s, b), y = output_of(s, b);
  int64_t const size = size_of(b.values),
                together = (s[kInChannels] | s[kXPitch] | s[kYPitch] | x.image | y.image) * size;
  if (together % 16 == 0 && is_aligned(x.data, 16) && is_aligned(y.data, 16))
    return upsample_vectors<uint4>(s, x, y, b, context);
  size == 2 ? upsample_vectors<uint16_t>(s, x, y, b, context) : upsample_vectors<unsigned>(s, x, y, b, context);
}

void pool_step(int64_t const* s, Batch const& b, Context const& context) {
  Place const x = input_of(s, b), y = output_of(s, b);
  max_pool2d_images_cuda({x.data, y.data, b.images, x.image, y.image, int(s[kHeight]), int(s[kWidth]), int(s[kXPitch]),
                          int(s[kYPitch]), int(s[kInChannels]), int(s[kKernel])},
                         b.values, context);
}

void run_steps(View program, Batch const& b, Context const& context) {
  for (int64_t i = 0; i < program.shape[0]; ++i) {
    int64_t const* const s = program.as<int64_t>() + i * kStepFields;
    switch (Step(s[kKind])) {
      case Step::conv2d: conv2d_step(s, b, context); break;
      case Step::depthwise: depthwise_step(s, b, context); break;
      case Step::max_pool: pool_step(s, b, context); break;
      case Step::upsample2x: upsample_step(s, b, context); break;
      default: i += block_step(s, b, context); break;
    }
  }
}

}  // namespace

void forward_cuda(View x, View program, View const* weights, View arena, int64_t arena_size, View y,
                  Context const& context) {
  int64_t const images = x.shape[0], x_size = x.numel() / images, y_size = y.numel() / images;
  int64_t const together = std::min(images, arena.numel() / arena_size);
  for (int64_t first = 0; first < images; first += together)
    run_steps(program,
              {x.as<char>() + first * x_size * size_of(x.dtype), x.dtype, arena.dtype, arena.as<char>(),
               y.as<char>() + first * y_size * size_of(y.dtype), std::min(together, images - first), x_size, arena_size,
               y_size, weights},
              context);
}

}  // namespace leyolo

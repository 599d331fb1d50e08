// A thread makes 16 bytes of channels of a pixel, or one value; the window comes out of the L1 cache.
#include "core/vectors.cuh"
#include "ops/max_pool2d/max_pool2d_cuda.h"

namespace leyolo {

namespace {

template <class T, int WIDTH>
struct alignas(WIDTH * sizeof(T)) Vector {
  T value[WIDTH];
};

template <class T, int WIDTH>
__global__ void __launch_bounds__(kThreads, 4) max_pool(MaxPool2dImages a, int64_t threads) {
  using V = Vector<T, WIDTH>;
  int64_t const id = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (id >= threads) return;
  int const vectors = a.channels / WIDTH;
  int64_t const pixel = id / vectors, line = pixel / a.width, image = line / a.height;
  int const channel = int(id - pixel * vectors) * WIDTH, column = int(pixel - line * a.width),
            row = int(line - image * a.height), p = a.kernel / 2;
  T const* const x = static_cast<T const*>(a.x) + image * a.x_image + channel;
  // From the pixel itself: the window always holds it. As in torch, NaN wins.
  V best = *reinterpret_cast<V const*>(x + (int64_t(row) * a.width + column) * a.x_pitch);
  for (int i = max(row - p, 0); i <= min(row + p, a.height - 1); ++i)
    for (int j = max(column - p, 0); j <= min(column + p, a.width - 1); ++j) {
      V const v = *reinterpret_cast<V const*>(x + (int64_t(i) * a.width + j) * a.x_pitch);
#pragma unroll
      for (int e = 0; e < WIDTH; ++e)
        if (float(v.value[e]) > float(best.value[e]) || float(v.value[e]) != float(v.value[e]))
          best.value[e] = v.value[e];
    }
  T* const y = static_cast<T*>(a.y) + image * a.y_image + channel;
  *reinterpret_cast<V*>(y + (int64_t(row) * a.width + column) * a.y_pitch) = best;
}

template <class T, int WIDTH>
void run(MaxPool2dImages const& a, Context const& context) {
  int64_t const threads = a.images * a.height * a.width * (a.channels / WIDTH);
  LEYOLO_LAUNCH((max_pool<T, WIDTH>), blocks(threads), kThreads, 0, context.stream, a, threads);
}

template <class T>
void run_type(MaxPool2dImages const& a, Context const& context) {
  constexpr int kWidth = 16 / sizeof(T);
  bool const wide = (a.channels | a.x_pitch | a.y_pitch | a.x_image | a.y_image) % kWidth == 0 && is_aligned(a.x, 16) &&
                    is_aligned(a.y, 16);
  wide ? run<T, kWidth>(a, context) : run<T, 1>(a, context);
}

}  // namespace

void max_pool2d_images_cuda(MaxPool2dImages const& a, DType type, Context const& context) {
  if (type == DType::f16) return run_type<__half>(a, context);
  if (type == DType::bf16) return run_type<__nv_bfloat16>(a, context);
  run_type<float>(a, context);
}

}  // namespace leyolo

// A block makes 128 pixels of a few rows of the output: a thread a pixel, whose column stays the same from row to row;
// rows of the block go through shared memory, so that the stores are dense and 16 bytes wide.
#include "core/cuda.cuh"
#include "ops/letterbox/letterbox.h"
#include "ops/letterbox/letterbox_math.h"
#include "ops/letterbox/letterbox_taps.h"

namespace leyolo {

namespace {

constexpr int kPixels = 128, kRows = 4;

enum class Resize { copy, halve, bilinear };

struct Job {
  uint8_t const* image;  // [B, height, width, 3]
  int64_t height, width;
  int64_t out_height, out_width, left, top, resized_height, resized_width;
  int64_t across, down;  // blocks of an image
  double row_scale, column_scale;
  bool swap_rb, vectors;
  int value;
};

template <class T>
__device__ __forceinline__ T unit(int byte) {
  return T(float(byte) / 255.0f);
}
template <>
__device__ __forceinline__ uint8_t unit<uint8_t>(int byte) {
  return uint8_t(byte);
}

template <Resize how>
__device__ __forceinline__ void pixel(Job const& j, int64_t image, int64_t y, int64_t x, Tap const& column, int* to) {
  auto const at = [&](int64_t row, int64_t col) { return j.image + ((image * j.height + row) * j.width + col) * 3; };
  if constexpr (how == Resize::copy) {
    uint8_t const* const p = at(y, x);
    for (int c = 0; c < 3; ++c) to[c] = p[c];
  } else if constexpr (how == Resize::halve) {
    uint8_t const *const u = at(2 * y, 2 * x), *const l = at(2 * y + 1, 2 * x);
    for (int c = 0; c < 3; ++c) to[c] = mean_of_four(u[c], u[c + 3], l[c], l[c + 3]);
  } else {
    Tap const row = row_tap(y, j.height, j.row_scale);
    uint8_t const *const u0 = at(row.first, column.first), *const u1 = at(row.first, column.second),
                         *const l0 = at(row.second, column.first), *const l1 = at(row.second, column.second);
    for (int c = 0; c < 3; ++c)
      to[c] = mix_rows(mix_columns(u0[c], u1[c], column.w0, column.w1), mix_columns(l0[c], l1[c], column.w0, column.w1),
                       row.w0, row.w1);
  }
}

template <Resize how, class T>
__global__ void __launch_bounds__(kPixels, 8) letterbox_kernel(Job j, T* out) {
  LEYOLO_SHARED(uint4, memory, 2 * kPixels * 3 * int(sizeof(T)) / 16);
  int64_t const piece = int64_t(blockIdx.x) / j.across, image = piece / j.down;
  int64_t const first = int64_t(blockIdx.x) % j.across * kPixels, column = first + threadIdx.x, x = column - j.left;
  bool const inside = x >= 0 && x < j.resized_width;
  Tap tap{};
  if (how == Resize::bilinear && inside) tap = column_tap(x, j.width, j.column_scale);
  int const count = 3 * int(min_of<int64_t>(kPixels, j.out_width - first));
  for (int r = 0; r < kRows; ++r) {
    int64_t const row = piece % j.down * kRows + r, y = row - j.top;
    if (row >= j.out_height) return;
    int p[3] = {j.value, j.value, j.value};
    if (inside && y >= 0 && y < j.resized_height) {
      pixel<how>(j, image, y, x, tap, p);
      if (j.swap_rb) {
        int const red = p[2];
        p[2] = p[0], p[0] = red;
      }
    }
    T* const line = reinterpret_cast<T*>(memory) + r % 2 * kPixels * 3;  // the other one may still be read
    for (int c = 0; c < 3; ++c) line[3 * threadIdx.x + c] = unit<T>(p[c]);
    __syncthreads();
    T* const to = out + ((image * j.out_height + row) * j.out_width + first) * 3;
    if (j.vectors) {
      constexpr int each = 16 / int(sizeof(T));
      for (int i = threadIdx.x; i < count / each; i += kPixels)
        reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<uint4 const*>(line)[i];
    } else {
      for (int i = threadIdx.x; i < count; i += kPixels) to[i] = line[i];
    }
  }
}

template <class T>
void run(View image, View out, Letterbox const& g, int64_t value, bool swap_rb, Context const& context) {
  int64_t const height = image.shape[1], width = image.shape[2];
  Job const j{image.as<uint8_t>(),
              height,
              width,
              g.height,
              g.width,
              g.left,
              g.top,
              g.resized_height,
              g.resized_width,
              (g.width + kPixels - 1) / kPixels,
              (g.height + kRows - 1) / kRows,
              tap_scale(height, g.resized_height),
              tap_scale(width, g.resized_width),
              swap_rb,
              3 * g.width * int64_t(sizeof(T)) % 16 == 0 && reinterpret_cast<uintptr_t>(out.data) % 16 == 0,
              int(value)};
  unsigned const grid = unsigned(image.shape[0] * j.across * j.down);
  if (g.resized_height == height && g.resized_width == width)
    LEYOLO_LAUNCH((letterbox_kernel<Resize::copy, T>), grid, kPixels, 0, context.stream, j, out.as<T>());
  else if (2 * g.resized_height == height && 2 * g.resized_width == width)
    LEYOLO_LAUNCH((letterbox_kernel<Resize::halve, T>), grid, kPixels, 0, context.stream, j, out.as<T>());
  else
    LEYOLO_LAUNCH((letterbox_kernel<Resize::bilinear, T>), grid, kPixels, 0, context.stream, j, out.as<T>());
}

}  // namespace

void letterbox_cuda(View image, View out, Letterbox const& g, int64_t value, bool swap_rb, Context const& context) {
  switch (out.dtype) {
    case DType::f32: return run<float>(image, out, g, value, swap_rb, context);
    case DType::f16: return run<__half>(image, out, g, value, swap_rb, context);
    case DType::bf16: return run<__nv_bfloat16>(image, out, g, value, swap_rb, context);
    default: return run<uint8_t>(image, out, g, value, swap_rb, context);
  }
}

}  // namespace leyolo

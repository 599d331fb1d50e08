// The fused block as one kernel, for the files that instantiate it.
#pragma once

#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/inverted_bottleneck/bottleneck_tile.cuh"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

namespace leyolo {

struct BottleneckSizes {
  int64_t x_image, y_image, residual_image, low_image;
  int height, width, out_height, out_width, x_pitch, y_pitch, residual_pitch, low_pitch, low_channels;
  int in_channels, middle, out_channels, kernel, stride, padding;
  int rows, columns, in_rows, in_columns;  // of the tile
  int row_tiles, column_tiles;
  int x_row, expand_row, project_row;  // x: of a pixel in shared memory; others: of weights in global memory
  Activation activation;
};

template <class T>
struct BottleneckWeights {
  T const *expand, *depthwise, *project;
  float const *expand_bias, *depthwise_bias, *project_bias;
};

// The convolution in front that makes x out of an image.
template <class T>
struct BottleneckStem {
  T const* weight;
  float const* bias;
  int64_t image;                                                     // values from image to image
  int height, width, channels, kernel, stride, padding, depth, row;  // of the image; of its windows
};
struct NoImage {};  // x is a map

// Shared memory of a block of threads; bottleneck_shared counts the same.
template <class T>
struct BottleneckMemory {
  T *weights, *x, *expanded, *filtered;
  unsigned char* inside;          // of every pixel of x: whether it lies in the image
  int stage, project, depthwise;  // values of the weights of a slice, which exist twice, and where they begin in it

  __device__ __forceinline__ BottleneckMemory(T* p, BottleneckSizes const& s, int groups, int warps, bool expands) {
    int const pixels = (s.in_rows * s.in_columns + 15) / 16 * 16;
    project = expands ? kSlice * s.x_row : 0;
    depthwise = project + 32 * groups * kRow;
    stage = depthwise + s.kernel * s.kernel * kSlice;
    weights = p;
    x = weights + 2 * stage;
    expanded = x + (expands ? pixels * s.x_row : 0);
    filtered = expanded + pixels * kSlice;
    inside = reinterpret_cast<unsigned char*>(filtered + 16 * warps * kRow);
  }
};

// The tile of x out of the image, on tensor cores: a warp gathers the windows of 16 pixels, at most 32 values each, in
// its rows of `filtered`. Weights lie in `expanded`.
template <class T, class X>
__device__ __forceinline__ void make_x(BottleneckStem<T> const& stem, X const* image, BottleneckMemory<T> const& m,
                                       TileSource<T> const& source, int x_row, Activation activation) {
  int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, channel = lane % 4 * 8;
  int const tap = lane / stem.channels, dy = tap / stem.kernel, dx = tap - dy * stem.kernel;
  T* const windows = m.filtered + 16 * warp * kRow;
  for (int tile = warp; 16 * tile < source.pixels; tile += int(blockDim.x) / 32) {
#pragma unroll 4
    for (int i = 0; i < 16; ++i) {
      int const pixel = 16 * tile + i, line = pixel / source.columns, r = source.top + line,
                c = source.left + pixel - line * source.columns;
      int const row = r * stem.stride - stem.padding + dy, column = c * stem.stride - stem.padding + dx;
      T value(0.0f);
      if (lane < stem.depth && pixel < source.pixels && source.holds(r, c) && unsigned(row) < unsigned(stem.height) &&
          unsigned(column) < unsigned(stem.width)) {
        X const given = image[(int64_t(row) * stem.width + column) * stem.channels + lane - tap * stem.channels];
        if constexpr (std::is_same_v<X, uint8_t>)
          value = T(float(given) * (1.0f / 255.0f));
        else
          value = T(given);
      }
      windows[i * kRow + lane] = value;
    }
    __syncwarp();
    float sum[4][4] = {};
#pragma unroll
    for (int k = 0; k < kSlice; k += 16) {
      unsigned a[4];
      ldmatrix_x4(a, windows + a_row(lane) * kRow + k + a_column(lane));
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        unsigned b[4];
        ldmatrix_x4(b, m.expanded + (16 * pair + b_row(lane)) * kRow + k + b_column(lane));
        mma_16816<T>(sum[2 * pair], a, {b[0], b[1]});
        mma_16816<T>(sum[2 * pair + 1], a, {b[2], b[3]});
      }
    }
    __syncwarp();  // the windows have been read
    if (channel >= x_row - 8) continue;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const pixel = 16 * tile + 8 * half + lane / 4;
      if (pixel >= source.pixels) continue;
      float v[8] = {};
      if (m.inside[pixel] && channel < source.channels) {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = sum[i / 2][2 * half + i % 2];
        activate8(v, stem.bias + channel, activation);
      }
      store8(v, m.x + pixel * x_row + channel);
    }
  }
}

// GROUPS: of 32 output channels. X: of an image, or NoImage. Sixteen warps of 128 registers fill a multiprocessor.
template <class T, int GROUPS, bool EXPANDS, class X>
__global__ void __launch_bounds__(512, 1)
    inverted_bottleneck(T const* __restrict__ x, T const* __restrict__ low, X const* __restrict__ image,
                        BottleneckStem<T> stem, BottleneckWeights<T> w, T const* __restrict__ residual,
                        T* __restrict__ y, BottleneckSizes s) {
  constexpr bool kStem = !std::is_same_v<X, NoImage>;
  LEYOLO_DYNAMIC_SHARED(T, memory);
  int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  BottleneckMemory<T> const m(memory, s, GROUPS, int(blockDim.x) / 32, EXPANDS);
  int const tiles = s.row_tiles * s.column_tiles, number = int(blockIdx.x) / tiles;
  int const tile = int(blockIdx.x) - number * tiles;
  int const row = tile / s.column_tiles * s.rows, column = tile % s.column_tiles * s.columns;
  TileSource<T> const source{x + number * s.x_image,
                             low + number * s.low_image,
                             s.height,
                             s.width,
                             s.x_pitch,
                             s.in_channels,
                             s.low_pitch,
                             s.low_channels,
                             row * s.stride - s.padding,
                             column * s.stride - s.padding,
                             s.in_columns,
                             s.in_rows * s.in_columns};

  auto const load_weights = [&](int slice, T* to) {
    if constexpr (EXPANDS)
      load_rows(to, s.x_row, w.expand, s.expand_row, slice, s.middle, 0, kSlice, (s.x_row - 8) / 8);
    load_rows(to + m.project, kRow, w.project, s.project_row, 0, s.out_channels, slice, 32 * GROUPS, 4);
    load_taps(to + m.depthwise, w.depthwise, s.project_row, s.project_row, slice, s.kernel * s.kernel);
  };

  if constexpr (EXPANDS) source.mark(m.inside);
  if constexpr (kStem)
    load_rows(m.expanded, kRow, stem.weight, stem.row, 0, s.in_channels, 0, 32, 4);
  else if constexpr (EXPANDS)
    source.load(m.x, s.x_row, 0, (s.x_row - 8) / 8);
  load_weights(0, m.weights);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  if constexpr (kStem) {
    make_x(stem, image + number * stem.image, m, source, s.x_row, s.activation);
    __syncthreads();
  }

  constexpr int kRows = GROUPS < 4 ? 2 : 1;  // as many as there are registers for
  auto const everywhere = [](int, int) { return true; };
  float sum[GROUPS][4][4] = {};
  T *weights = m.weights, *next = m.weights + m.stage;
  for (int slice = 0; slice < s.middle; slice += kSlice) {
    if constexpr (EXPANDS) {
      expand(m.x, m.inside, m.expanded, weights, w.expand_bias + slice, source.pixels, s.x_row, s.middle - slice,
             s.activation);
    } else {
      source.load(m.expanded, kSlice, slice, kSlice / 8);
      copy_async_commit();
      copy_async_wait<0>();
    }
    __syncthreads();  // also: all warps are done with the other stage
    if (slice + kSlice < s.middle) load_weights(slice + kSlice, next);
    copy_async_commit();
    FilterSizes const f{s.rows, s.columns, s.in_columns, s.middle - slice, s.activation};
    T const* const taps = weights + m.depthwise;
    float const* const bias = w.depthwise_bias + slice;
    switch (10 * s.kernel + s.stride) {
      case 31: filter<T, 3, 1, kRows, kRow>(m.expanded, taps, bias, m.filtered, f, everywhere); break;
      case 32: filter<T, 3, 2, kRows, kRow>(m.expanded, taps, bias, m.filtered, f, everywhere); break;
      case 51: filter<T, 5, 1, kRows, kRow>(m.expanded, taps, bias, m.filtered, f, everywhere); break;
      default: filter<T, 5, 2, kRows, kRow>(m.expanded, taps, bias, m.filtered, f, everywhere); break;
    }
    copy_async_wait<0>();
    __syncthreads();
    project<T, GROUPS>(sum, m.filtered, weights + m.project);
    T* const used = weights;
    weights = next, next = used;
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int const pixel = 16 * warp + 8 * half + lane / 4, line = pixel / s.columns;
    int const r = row + line, c = column + pixel - line * s.columns;
    if (line >= s.rows || r >= s.out_height || c >= s.out_width) continue;
    int64_t const at = int64_t(r) * s.out_width + c;
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
      int const channel = 32 * group + lane % 4 * 8;
      if (channel >= s.out_channels) continue;
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = sum[group][i / 2][2 * half + i % 2];
      activate8(v, w.project_bias + channel, Activation::none);
      if (residual) add8(v, residual + number * s.residual_image + at * s.residual_pitch + channel);
      store8(v, y + number * s.y_image + at * s.y_pitch + channel);
    }
  }
}

inline BottleneckSizes bottleneck_sizes(BottleneckImages const& a, BottleneckTile const& t) {
  return {a.x_image,
          a.y_image,
          a.residual_image,
          a.low_image,
          a.height,
          a.width,
          a.out_height,
          a.out_width,
          a.x_pitch,
          a.y_pitch,
          a.residual_pitch,
          a.low_pitch,
          a.low_channels,
          a.in_channels,
          a.middle_channels,
          a.out_channels,
          a.kernel,
          a.stride,
          a.padding,
          t.rows,
          t.columns,
          (t.rows - 1) * a.stride + a.kernel,
          (t.columns - 1) * a.stride + a.kernel,
          int(blocks(a.out_height, t.rows)),
          int(blocks(a.out_width, t.columns)),
          (a.in_channels + 15) / 16 * 16 + 8,
          int(conv2d_cuda_row(a.in_channels)),
          int(conv2d_cuda_row(a.middle_channels)),
          a.activation};
}

// Behind the bias of packed weights.
template <class T>
T const* packed_values(void const* packed, int64_t bias) {
  return packed ? reinterpret_cast<T const*>(static_cast<float const*>(packed) + bias) : nullptr;
}

// `image` and `stem`: of X; else nothing.
template <class T, int GROUPS, bool EXPANDS, class X>
void launch_bottleneck(BottleneckImages const& a, BottleneckTile const& tile, X const* image,
                       BottleneckStem<T> const& stem, Context const& context) {
  BottleneckSizes s = bottleneck_sizes(a, tile);
  if (image) s.x_image = 0;
  BottleneckWeights<T> const w{packed_values<T>(a.expand, conv2d_cuda_bias(s.middle)),
                               packed_values<T>(a.depthwise, depthwise_cuda_bias(s.middle)),
                               packed_values<T>(a.project, conv2d_cuda_bias(s.out_channels)),
                               static_cast<float const*>(a.expand),
                               static_cast<float const*>(a.depthwise),
                               static_cast<float const*>(a.project)};
  LEYOLO_LAUNCH((inverted_bottleneck<T, GROUPS, EXPANDS, X>), unsigned(a.images * s.row_tiles * s.column_tiles),
                32 * tile.warps, size_t(tile.shared), context.stream, image ? nullptr : static_cast<T const*>(a.x),
                static_cast<T const*>(a.low), image, stem, w, static_cast<T const*>(a.residual), static_cast<T*>(a.y),
                s);
}

// A block with a convolution of an image in front (inverted_bottleneck_stem.cu).
void bottleneck_stem_cuda(BottleneckImages const& a, BottleneckTile const& tile, DType type, Context const& context);

}  // namespace leyolo

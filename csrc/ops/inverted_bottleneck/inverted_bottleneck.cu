// One kernel for expand, depthwise and project. A block of threads makes a tile of the output. Its part of x, with the
// border that the window needs, stays in shared memory; then the expanded channels go by in slices of 32: expand on
// tensor cores, activation, zeros outside the image (the border is zero after the activation) -> shared memory;
// depthwise on the FMA units -> shared memory; project on tensor cores, whose sums stay in registers over all slices.
// The weights of the next slice arrive by asynchronous copies meanwhile. Without expansion the slices are read from x.
#include "core/mma.cuh"
#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/depthwise_conv2d/depthwise_strip.cuh"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

namespace leyolo {

namespace {

constexpr int kSlice = 32, kRow = kSlice + 8;  // rows of 80 bytes spare ldmatrix bank conflicts

struct Sizes {
  int64_t x_image, y_image, residual_image;
  int height, width, out_height, out_width, x_pitch, y_pitch, residual_pitch;
  int in_channels, middle, out_channels, kernel, stride, padding;
  int rows, columns, in_rows, in_columns;  // of the tile
  int row_tiles, column_tiles;
  int x_row, expand_row, project_row;  // x: of a pixel in shared memory; others: of weights in global memory
  Activation activation;
};

template <class T>
struct Weights {
  T const *expand, *depthwise, *project;
  float const *expand_bias, *depthwise_bias, *project_bias;
};

// Shared memory of a block; bottleneck_shared counts the same.
template <class T>
struct Memory {
  T *weights, *x, *expanded, *filtered;
  unsigned char* inside;          // of every pixel of x: whether it lies in the image
  int stage, project, depthwise;  // values of the weights of a slice, which exist twice, and where they begin in it

  __device__ __forceinline__ Memory(T* p, Sizes const& s, int groups, int warps, bool expands) {
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

template <class T, int K, int STRIDE>
__device__ __forceinline__ void filter(T const* expanded, T const* weights, float const* bias, T* filtered, int slice,
                                       Sizes const& s) {
  int const strips = s.columns / kStrip, items = s.rows * strips * (kSlice / 2);
  for (int item = int(threadIdx.x); item < items; item += int(blockDim.x)) {
    int const channel = item % (kSlice / 2) * 2, strip = item / (kSlice / 2), row = strip / strips,
              column = (strip - row * strips) * kStrip;
    float2 const b = slice + channel < s.middle ? load2(bias + slice + channel) : float2{0, 0};
    float2 sum[kStrip] = {b, b, b, b};
    T const* from = expanded + (row * STRIDE * s.in_columns + column * STRIDE) * kSlice + channel;
    T const* taps = weights + channel;
#pragma unroll
    for (int ky = 0; ky < K; ++ky, from += s.in_columns * kSlice, taps += K * kSlice)
      depthwise_row<K, STRIDE>(
          sum, [&](int j) { return load2(from + j * kSlice); }, [&](int j) { return load2(taps + j * kSlice); });
    T* const to = filtered + (row * s.columns + column) * kRow + channel;
#pragma unroll
    for (int i = 0; i < kStrip; ++i) store2(activate2(sum[i], s.activation), to + i * kRow);
  }
}

// Expands all pixels of the tile into one slice of channels.
template <class T>
__device__ __forceinline__ void expand(Memory<T> const& m, T const* weights, float const* bias, int slice,
                                       Sizes const& s) {
  int const lane = int(threadIdx.x) % 32, pixels = s.in_rows * s.in_columns, channel = lane % 4 * 8;
  int const depth = s.x_row - 8;
  for (int tile = int(threadIdx.x) / 32; 16 * tile < pixels; tile += int(blockDim.x) / 32) {
    float sum[4][4] = {};
    for (int k = 0; k < depth; k += 16) {
      unsigned a[4], b[2][4];
      ldmatrix_x4(a, m.x + (16 * tile + a_row(lane)) * s.x_row + k + a_column(lane));
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        ldmatrix_x4(b[pair], weights + (16 * pair + b_row(lane)) * s.x_row + k + b_column(lane));
#pragma unroll
      for (int j = 0; j < 4; ++j) mma_16816<T>(sum[j], a, {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const pixel = 16 * tile + 8 * half + lane / 4;
      if (pixel >= pixels) continue;
      float v[8] = {};
      if (m.inside[pixel] && slice + channel < s.middle) {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = sum[i / 2][2 * half + i % 2];
        activate8(v, bias + slice + channel, s.activation);
      }
      store8(v, m.expanded + pixel * kSlice + channel);
    }
  }
}

// GROUPS: of 32 output channels. Sixteen warps of 128 registers fill a multiprocessor.
template <class T, int GROUPS, bool EXPANDS>
__global__ void __launch_bounds__(512, 1)
    inverted_bottleneck(T const* __restrict__ x, Weights<T> w, T const* __restrict__ residual, T* __restrict__ y,
                        Sizes s) {
  LEYOLO_DYNAMIC_SHARED(T, memory);
  int const thread = int(threadIdx.x), threads = int(blockDim.x), lane = thread % 32, warp = thread / 32;
  Memory<T> const m(memory, s, GROUPS, threads / 32, EXPANDS);
  int const tiles = s.row_tiles * s.column_tiles, image = int(blockIdx.x) / tiles;
  int const tile = int(blockIdx.x) - image * tiles;
  int const row = tile / s.column_tiles * s.rows, column = tile % s.column_tiles * s.columns;
  int const top = row * s.stride - s.padding, left = column * s.stride - s.padding;
  int const pixels = s.in_rows * s.in_columns;
  T const* const from = x + image * s.x_image;

  // `vectors` vectors of 8 channels, from `first`, of every pixel of the tile; zeros outside the image.
  auto const load_x = [&](T* to, int pitch, int first, int vectors) {
    for (int i = thread; i < pixels * vectors; i += threads) {
      int const pixel = i / vectors, channel = first + (i - pixel * vectors) * 8;
      int const line = pixel / s.in_columns, r = top + line, c = left + pixel - line * s.in_columns;
      bool const inside = unsigned(r) < unsigned(s.height) && unsigned(c) < unsigned(s.width);
      bool const there = inside && channel < s.in_channels;
      copy16_async(to + pixel * pitch + channel - first,
                   from + (there ? (int64_t(r) * s.width + c) * s.x_pitch + channel : 0), there);
      if (EXPANDS && channel == 0) m.inside[pixel] = inside;
    }
  };
  auto const load_weights = [&](int slice, T* to) {
    if constexpr (EXPANDS) {
      int const vectors = (s.x_row - 8) / 8;
      for (int i = thread; i < kSlice * vectors; i += threads) {
        int const n = i / vectors, at = (i - n * vectors) * 8;
        bool const there = slice + n < s.middle && at < s.expand_row;
        copy16_async(to + b_place(n) * s.x_row + at, w.expand + (there ? int64_t(slice + n) * s.expand_row + at : 0),
                     there);
      }
    }
    for (int i = thread; i < 32 * GROUPS * 4; i += threads) {
      int const n = i / 4, at = i % 4 * 8;
      bool const there = n < s.out_channels && slice + at < s.project_row;
      copy16_async(to + m.project + b_place(n) * kRow + at,
                   w.project + (there ? int64_t(n) * s.project_row + slice + at : 0), there);
    }
    for (int i = thread; i < s.kernel * s.kernel * 4; i += threads) {
      int const tap = i / 4, at = i % 4 * 8;
      bool const there = slice + at < s.project_row;
      copy16_async(to + m.depthwise + tap * kSlice + at,
                   w.depthwise + (there ? int64_t(tap) * s.project_row + slice + at : 0), there);
    }
  };

  if constexpr (EXPANDS) load_x(m.x, s.x_row, 0, (s.x_row - 8) / 8);
  load_weights(0, m.weights);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();

  float sum[GROUPS][4][4] = {};
  T *weights = m.weights, *next = m.weights + m.stage;
  for (int slice = 0; slice < s.middle; slice += kSlice) {
    if constexpr (EXPANDS) {
      expand(m, weights, w.expand_bias, slice, s);
    } else {
      load_x(m.expanded, kSlice, slice, kSlice / 8);
      copy_async_commit();
      copy_async_wait<0>();
    }
    __syncthreads();  // also: all warps are done with the other stage
    if (slice + kSlice < s.middle) load_weights(slice + kSlice, next);
    copy_async_commit();
    switch (10 * s.kernel + s.stride) {
      case 31: filter<T, 3, 1>(m.expanded, weights + m.depthwise, w.depthwise_bias, m.filtered, slice, s); break;
      case 32: filter<T, 3, 2>(m.expanded, weights + m.depthwise, w.depthwise_bias, m.filtered, slice, s); break;
      case 51: filter<T, 5, 1>(m.expanded, weights + m.depthwise, w.depthwise_bias, m.filtered, slice, s); break;
      default: filter<T, 5, 2>(m.expanded, weights + m.depthwise, w.depthwise_bias, m.filtered, slice, s); break;
    }
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kSlice; k += 16) {
      unsigned a[4];
      ldmatrix_x4(a, m.filtered + (16 * warp + a_row(lane)) * kRow + k + a_column(lane));
#pragma unroll
      for (int pair = 0; pair < 2 * GROUPS; ++pair) {
        unsigned b[4];
        ldmatrix_x4(b, weights + m.project + (16 * pair + b_row(lane)) * kRow + k + b_column(lane));
        mma_16816<T>(sum[pair / 2][pair % 2 * 2], a, {b[0], b[1]});
        mma_16816<T>(sum[pair / 2][pair % 2 * 2 + 1], a, {b[2], b[3]});
      }
    }
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
      if (residual) add8(v, residual + image * s.residual_image + at * s.residual_pitch + channel);
      store8(v, y + image * s.y_image + at * s.y_pitch + channel);
    }
  }
}

template <class T, int GROUPS, bool EXPANDS>
void go(BottleneckImages const& a, BottleneckTile const& tile, Weights<T> const& w, Sizes const& s,
        Context const& context) {
  LEYOLO_LAUNCH((inverted_bottleneck<T, GROUPS, EXPANDS>), unsigned(a.images * s.row_tiles * s.column_tiles),
                32 * tile.warps, size_t(tile.shared), context.stream, static_cast<T const*>(a.x), w,
                static_cast<T const*>(a.residual), static_cast<T*>(a.y), s);
}

template <class T, int GROUPS>
void run_groups(BottleneckImages const& a, BottleneckTile const& tile, Weights<T> const& w, Sizes const& s,
                Context const& context) {
  a.expand ? go<T, GROUPS, true>(a, tile, w, s, context) : go<T, GROUPS, false>(a, tile, w, s, context);
}

template <class T>
void run(BottleneckImages const& a, BottleneckTile const& t, Context const& context) {
  Sizes s{a.x_image,
          a.y_image,
          a.residual_image,
          a.height,
          a.width,
          a.out_height,
          a.out_width,
          a.x_pitch,
          a.y_pitch,
          a.residual_pitch,
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
  auto const values = [](void const* packed, int64_t bias) {
    return reinterpret_cast<T const*>(static_cast<float const*>(packed) + bias);
  };
  Weights<T> const w{a.expand ? values(a.expand, conv2d_cuda_bias(s.middle)) : nullptr,
                     values(a.depthwise, depthwise_cuda_bias(s.middle)),
                     values(a.project, conv2d_cuda_bias(s.out_channels)),
                     static_cast<float const*>(a.expand),
                     static_cast<float const*>(a.depthwise),
                     static_cast<float const*>(a.project)};
  switch ((s.out_channels + 31) / 32) {
    case 1: return run_groups<T, 1>(a, t, w, s, context);
    case 2: return run_groups<T, 2>(a, t, w, s, context);
    case 3: return run_groups<T, 3>(a, t, w, s, context);
    default: return run_groups<T, 4>(a, t, w, s, context);
  }
}

}  // namespace

BottleneckTile bottleneck_tile_here(BottleneckShape const& shape) {
#ifdef LEYOLO_CUDA_SHIM
  return bottleneck_tile(shape, 99 << 10, 4);
#else
  int device = 0, shared = 0, multiprocessors = 0;
  check_cuda("inverted_bottleneck", cudaGetDevice(&device));
  check_cuda("inverted_bottleneck", cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check_cuda("inverted_bottleneck", cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  return bottleneck_tile(shape, shared, multiprocessors);
#endif
}

void bottleneck_images_cuda(BottleneckImages const& a, DType type, Context const& context) {
  BottleneckTile const tile = bottleneck_tile_here(a.shape());
  auto const vectors = [](void const* p, int pitch, int64_t image) {
    return pitch % 8 == 0 && image % 8 == 0 && is_aligned(p, 16);
  };
  check(tile.warps > 0 && (type == DType::f16 || type == DType::bf16) && vectors(a.x, a.x_pitch, a.x_image) &&
            vectors(a.y, a.y_pitch, a.y_image) && vectors(a.residual, a.residual_pitch, a.residual_image),
        "inverted_bottleneck: no kernel for ", type, ", ", a.in_channels, " -> ", a.middle_channels, " -> ",
        a.out_channels, " channels, kernel ", a.kernel, ", stride ", a.stride, ", pitches ", a.x_pitch, ", ",
        a.y_pitch);
  if (type == DType::f16) return run<__half>(a, tile, context);
  run<__nv_bfloat16>(a, tile, context);
}

}  // namespace leyolo

// Pieces of the fused block that kernels share: a tile of x with its border in shared memory, the expansion of all its
// pixels into a slice of channels, and depthwise convolution of such a slice.
#pragma once

#include "core/mma.cuh"
#include "ops/depthwise_conv2d/depthwise_strip.cuh"

namespace leyolo {

constexpr int kSlice = 32, kRow = kSlice + 8;  // rows of 80 bytes spare ldmatrix bank conflicts

// Where a tile comes from. The first `low_channels` channels are those of a map of half the height and width, nearest
// neighbour: an upsampling in front of the block happens as its pixels are read.
template <class T>
struct TileSource {
  T const *x, *low;  // of this image
  int height, width, pitch, channels;
  int low_pitch, low_channels;
  int top, left, columns, pixels;  // of the tile

  // `vectors` vectors of 8 channels, from `first`, of every pixel; zeros outside the image and past the channels.
  __device__ __forceinline__ void load(T* to, int to_pitch, int first, int vectors) const {
    for (int i = int(threadIdx.x); i < pixels * vectors; i += int(blockDim.x)) {
      int const pixel = i / vectors, channel = first + (i - pixel * vectors) * 8, line = pixel / columns;
      int const r = top + line, c = left + pixel - line * columns;
      bool const there = holds(r, c) && channel < channels;
      T const* from = x + (there ? (int64_t(r) * width + c) * pitch + channel : 0);
      if (there && channel < low_channels) from = low + (int64_t(r / 2) * (width / 2) + c / 2) * low_pitch + channel;
      copy16_async(to + pixel * to_pitch + channel - first, from, there);
    }
  }
  // Of every pixel: whether it lies in the image.
  __device__ __forceinline__ void mark(unsigned char* inside) const {
    for (int pixel = int(threadIdx.x); pixel < pixels; pixel += int(blockDim.x))
      inside[pixel] = holds(top + pixel / columns, left + pixel % columns);
  }
  __device__ __forceinline__ bool holds(int r, int c) const {
    return unsigned(r) < unsigned(height) && unsigned(c) < unsigned(width);
  }
};

// Rows of packed weights [rows, row] from `first` row and `begin` value on, `vectors` vectors of each, in the order
// that makes results of mma neighbouring channels; zeros past the ends.
template <class T>
__device__ __forceinline__ void load_rows(T* to, int to_pitch, T const* from, int row, int first, int rows, int begin,
                                          int count, int vectors) {
  for (int i = int(threadIdx.x); i < count * vectors; i += int(blockDim.x)) {
    int const n = i / vectors, at = (i - n * vectors) * 8;
    bool const there = first + n < rows && begin + at < row;
    copy16_async(to + b_place(n) * to_pitch + at, from + (there ? int64_t(first + n) * row + begin + at : 0), there);
  }
}

// One slice of `channels` (whole vectors) of the taps [taps, row] of a depthwise convolution; zeros past them.
template <class T>
__device__ __forceinline__ void load_taps(T* to, T const* from, int row, int channels, int begin, int taps) {
  for (int i = int(threadIdx.x); i < taps * 4; i += int(blockDim.x)) {
    int const tap = i / 4, at = i % 4 * 8;
    bool const there = begin + at < channels;
    copy16_async(to + tap * kSlice + at, from + (there ? int64_t(tap) * row + begin + at : 0), there);
  }
}

// Expands all pixels of the tile into one slice, of which `channels` channels exist; zeros outside the image.
template <class T>
__device__ __forceinline__ void expand(T const* x, unsigned char const* inside, T* expanded, T const* weights,
                                       float const* bias, int pixels, int x_row, int channels, Activation activation) {
  int const lane = int(threadIdx.x) % 32, channel = lane % 4 * 8, depth = x_row - 8;
  for (int tile = int(threadIdx.x) / 32; 16 * tile < pixels; tile += int(blockDim.x) / 32) {
    __syncwarp();  // lanes part where they store
    float sum[4][4] = {};
    for (int k = 0; k < depth; k += 16) {
      unsigned a[4], b[2][4];
      ldmatrix_x4(a, x + (16 * tile + a_row(lane)) * x_row + k + a_column(lane));
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        ldmatrix_x4(b[pair], weights + (16 * pair + b_row(lane)) * x_row + k + b_column(lane));
#pragma unroll
      for (int j = 0; j < 4; ++j) mma_16816<T>(sum[j], a, {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const pixel = 16 * tile + 8 * half + lane / 4;
      if (pixel >= pixels) continue;
      float v[8] = {};
      if (inside[pixel] && channel < channels) {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = sum[i / 2][2 * half + i % 2];
        activate8(v, bias + channel, activation);
      }
      store8(v, expanded + pixel * kSlice + channel);
    }
  }
}

// What a depthwise convolution of a slice makes.
struct FilterSizes {
  int rows, columns, in_columns;  // of the output: columns are whole strips; of the input
  int channels;                   // of the slice that exist
  Activation activation;
};

// A thread makes two channels of four columns of one or two rows: what the rows share is read once. `inside(row,
// column)`: elsewhere the output is zero.
template <class T, int K, int STRIDE, int ROWS, int PITCH, class Inside>
__device__ __forceinline__ void filter(T const* input, T const* weights, float const* bias, T* output,
                                       FilterSizes const& s, Inside&& inside) {
  constexpr int kInputs = (kStrip - 1) * STRIDE + K;
  int const strips = s.columns / kStrip, items = s.rows / ROWS * strips * (kSlice / 2);
  for (int item = int(threadIdx.x); item < items; item += int(blockDim.x)) {
    int const channel = item % (kSlice / 2) * 2, strip = item / (kSlice / 2), line = strip / strips, row = ROWS * line,
              column = (strip - line * strips) * kStrip;
    float2 const b = channel < s.channels ? load2(bias + channel) : float2{0, 0};
    float2 sum[ROWS][kStrip], w[K][K];
#pragma unroll
    for (int i = 0; i < ROWS * kStrip; ++i) sum[i / kStrip][i % kStrip] = b;
    T const* from = input + (row * STRIDE * s.in_columns + column * STRIDE) * kSlice + channel;
#pragma unroll
    for (int i = 0; i < K + (ROWS - 1) * STRIDE; ++i, from += s.in_columns * kSlice) {
      float2 in[kInputs];
#pragma unroll
      for (int j = 0; j < kInputs; ++j) in[j] = load2(from + j * kSlice);
      if (i < K) {
#pragma unroll
        for (int j = 0; j < K; ++j) w[i][j] = load2(weights + channel + (i * K + j) * kSlice);
        depthwise_row<K, STRIDE>(sum[0], in, w[i]);
      }
      if constexpr (ROWS == 2)
        if (i >= STRIDE) depthwise_row<K, STRIDE>(sum[1], in, w[i - STRIDE]);
    }
    T* const to = output + (row * s.columns + column) * PITCH + channel;
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int i = 0; i < kStrip; ++i)
        store2(inside(row + r, column + i) ? activate2(sum[r][i], s.activation) : float2{0, 0},
               to + (r * s.columns + i) * PITCH);
  }
}

// Adds one slice of a warp's 16 pixels to its sums of 32 GROUPS channels.
template <class T, int GROUPS>
__device__ __forceinline__ void project(float (&sum)[GROUPS][4][4], T const* filtered, T const* weights) {
  int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
#pragma unroll
  for (int k = 0; k < kSlice; k += 16) {
    unsigned a[4];
    ldmatrix_x4(a, filtered + (16 * warp + a_row(lane)) * kRow + k + a_column(lane));
#pragma unroll
    for (int pair = 0; pair < 2 * GROUPS; ++pair) {
      unsigned b[4];
      ldmatrix_x4(b, weights + (16 * pair + b_row(lane)) * kRow + k + b_column(lane));
      mma_16816<T>(sum[pair / 2][pair % 2 * 2], a, {b[0], b[1]});
      mma_16816<T>(sum[pair / 2][pair % 2 * 2 + 1], a, {b[2], b[3]});
    }
  }
}

}  // namespace leyolo

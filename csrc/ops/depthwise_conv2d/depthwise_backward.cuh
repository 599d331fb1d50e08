// One kernel reads the gradient of the outputs and x once and makes both gradients:
//   x gradient[p]      = sum over taps t of pre[o(p, t)] weight[t]
//   weight gradient[t] = sum over pixels p of pre[o(p, t)] x[p]
// which pair the same values. A thread owns two channels (one for 7 x 7) of kColumns columns of x and walks down the
// rows of pre; the rows of x and of its gradient that a row of pre reaches are live in registers, the loop is unrolled
// over them. Weights come from shared memory. Sums of the weight gradient stay in registers over all tiles of a thread;
// blocks leave theirs in the workspace, and a last kernel adds them up: always in the same order.
#pragma once

#include <algorithm>

#include "core/channels.cuh"
#include "ops/depthwise_conv2d/depthwise_conv2d.cuh"

namespace leyolo {

namespace {

constexpr int kMostMarchBlocks = kShim ? 5 : 792;  // two full waves of three blocks on 132 multiprocessors

// How the work is cut; decided by the shapes alone.
struct MarchPlan {
  int kind, width;           // depthwise_march_kind (0: any window), channels of a thread
  int columns, rows, lanes;  // of x per tile; threads side by side in the channels, a power of two
  int vectors, groups;       // of channels; groups of `lanes` vectors
  int column_strips, row_strips;
  int tiles;
  int chunks;  // blocks of one group
};

// What fits into the registers.
constexpr int march_columns(int kernel, int stride, int64_t size) {
  return kernel != 5 ? 4 : size == 4 ? 2 : stride == 1 ? 3 : 4;
}

// Tiles of a map of so many rows and columns, which `p.columns` and `p.width` cut.
inline void lay_out(MarchPlan& p, DepthwiseSizes const& s, int rows, int columns) {
  p.vectors = s.channels / p.width;
  // As many lanes as divide the vectors; where that leaves few, some idle.
  for (p.lanes = 32; p.lanes > 4 && p.vectors % p.lanes; p.lanes /= 2) continue;
  p.groups = (p.vectors + p.lanes - 1) / p.lanes;
  p.column_strips = int(blocks(columns, p.columns));
  int64_t const line = int64_t(s.images) * p.column_strips * p.vectors;
  p.rows = 2 * int(std::clamp<int64_t>(line * rows / (int64_t(kMostMarchBlocks) * kMarchThreads), 2, 32) / 2);
  p.row_strips = int(blocks(rows, p.rows));
  p.tiles = s.images * p.row_strips * p.column_strips;  // fewer than values: see depthwise_march_kind
  int64_t const side = kMarchThreads / p.lanes, most = std::max(1, kMostMarchBlocks / p.groups);
  int64_t const rounds = std::max<int64_t>(1, (p.tiles + most * side - 1) / (most * side));
  p.chunks = int(std::max<int64_t>(1, (p.tiles + rounds * side - 1) / (rounds * side)));
}

inline MarchPlan march_plan(DepthwiseSizes const& s, DType dtype) {
  MarchPlan p{};
  bool const centred = 2 * s.padding_h == s.kernel_h - 1 && 2 * s.padding_w == s.kernel_w - 1;
  p.kind = centred ? depthwise_march_kind(s) : 0;
  if (!p.kind) return p;
  int const padding = s.padding_w, stride = s.stride_w, shift = padding % stride;
  p.width = s.kernel_h == 7 ? 1 : 2;
  p.columns = march_columns(s.kernel_h, s.stride_h, size_of(dtype));
  lay_out(p, s, s.height + shift, s.width + shift);
  return p;
}

template <int WIDTH>
__device__ __forceinline__ void load_taps(float const* shared, float (&to)[WIDTH]) {
  if constexpr (WIDTH == 2) {
    float2 const pair = *reinterpret_cast<float2 const*>(shared);
    to[0] = pair.x, to[1] = pair.y;
  } else {
    to[0] = *shared;
  }
}

// MAPS says how the maps are read and what becomes of the gradient of x:
//   gradient(at, to)     the gradient of the outputs
//   Word enter(at)       x
//   wants(), leave(at, gradient of x)
//   kBias                the bias has a gradient
//   finish(memory, chunk, beside, plan)  when all tiles are done, with shared memory of kValues * kMarchThreads floats
template <class T, int K, int STRIDE, int WIDTH, int COLUMNS, int BLOCKS, class MAPS>
__global__ void __launch_bounds__(kMarchThreads, BLOCKS)
    depthwise_march_backward(T const* __restrict__ pre, T const* __restrict__ x, T const* __restrict__ weight,
                             T* __restrict__ x_gradient, float* __restrict__ partial,
                             typename MAPS::Arguments arguments, DepthwiseSizes s, MarchPlan plan) {
  using C = Channels<T, WIDTH>;
  constexpr int kPadding = K / 2, kShift = kPadding % STRIDE, kBase = kPadding - kShift;
  constexpr int kLive = (K + STRIDE - 1) / STRIDE, kSlots = kLive * STRIDE, kValues = (K * K + 1) * WIDTH;
  constexpr int kInputs = (COLUMNS - 1) / STRIDE + (K - 1) / STRIDE + 1;
  LEYOLO_SHARED(float, part, kValues* kMarchThreads);

  int const group = int(blockIdx.x) % plan.groups, chunk = int(blockIdx.x) / plan.groups;
  int const lane = int(threadIdx.x) & (plan.lanes - 1), beside = int(threadIdx.x) / plan.lanes;
  int const side = kMarchThreads / plan.lanes, vector = group * plan.lanes + lane, channel = vector * WIDTH;
  float tap_sum[K * K][WIDTH] = {}, bias_sum[WIDTH] = {};
  constexpr int kTap = 32 * WIDTH;
  for (int i = int(threadIdx.x); i < K * K * kTap; i += kMarchThreads) {
    int const c = group * plan.lanes * WIDTH + i % kTap;
    part[i] = c < s.channels ? float(weight[c * K * K + i / kTap]) : 0.0f;
  }
  __syncthreads();
  MAPS maps(pre, x, x_gradient, arguments, channel, s.channels);
  if (vector < plan.vectors) {
    float const* const w = part + lane * WIDTH;
    for (int tile = chunk * side + beside; tile < plan.tiles; tile += plan.chunks * side) {
      int const line = tile / plan.column_strips, strip = tile - line * plan.column_strips;
      int const image = line / plan.row_strips;
      // Columns and rows of x count from the padding on: a = column + kPadding, so that a - tap is a multiple of the
      // stride exactly where the tap leads to an output.
      int const a = strip * COLUMNS + kBase, column = a - kPadding, first = a / STRIDE - (K - 1) / STRIDE;
      int const top = (line - image * plan.row_strips) * plan.rows + kBase;
      int const bottom = min(top + plan.rows, s.height + kPadding), upper = max(top, kPadding);
      int const x_row = s.width * s.channels, pre_row = s.out_width * s.channels;
      int out = top / STRIDE - (K - 1) / STRIDE;
      unsigned inside = 0;  // bit j: output column first + j exists; bit 16 + j: column j of x does
#pragma unroll
      for (int j = 0; j < kInputs; ++j) inside |= unsigned(first + j >= 0 && first + j < s.out_width) << j;
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) inside |= unsigned(column + j >= 0 && column + j < s.width) << (16 + j);
      // Where the rows that leave in a step lie; those that enter are `ahead` further.
      int64_t at =
          (int64_t(image) * s.height + out * STRIDE - kPadding) * x_row + int64_t(column) * s.channels + channel;
      int const ahead = (K - STRIDE) * x_row;
      int64_t pre_at = (int64_t(image) * s.out_height + out) * pre_row + int64_t(first) * s.channels + channel;

      float dx[kSlots][COLUMNS][WIDTH] = {};
      typename C::Word kept[kSlots][COLUMNS];
#pragma unroll
      for (int slot = 0; slot < kSlots; ++slot)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) kept[slot][j] = C::zero();
      while (out * STRIDE < bottom) {
#pragma unroll
        for (int phase = 0; phase < kLive; ++phase) {
          if (out * STRIDE >= bottom) break;
          // Rows of x that enter.
#pragma unroll
          for (int q = 0; q < STRIDE; ++q) {
            int const slot = (phase * STRIDE + K - STRIDE + q) % kSlots, b = out * STRIDE + K - STRIDE + q;
            bool const enter = b >= upper && b < bottom;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j)
              kept[slot][j] =
                  enter && (inside >> (16 + j) & 1) ? maps.enter(at + ahead + q * x_row + j * s.channels) : C::zero();
          }
          if (out >= 0 && out < s.out_height) {
            float g[kInputs][WIDTH];
#pragma unroll
            for (int j = 0; j < kInputs; ++j) {
#pragma unroll
              for (int v = 0; v < WIDTH; ++v) g[j][v] = 0;
              if (inside >> j & 1) maps.gradient(pre_at + j * s.channels, g[j]);
            }
            int const centre = out * STRIDE + kPadding;
            if (MAPS::kBias && centre >= top && centre < bottom)
#pragma unroll
              for (int j = kShift; j < COLUMNS; j += STRIDE)
#pragma unroll
                for (int v = 0; v < WIDTH; ++v) bias_sum[v] += g[(j - kPadding + K - 1) / STRIDE][v];
#pragma unroll
            for (int ky = 0; ky < K; ++ky) {
              int const slot = (phase * STRIDE + ky) % kSlots;
              float from[COLUMNS][WIDTH];
#pragma unroll
              for (int j = 0; j < COLUMNS; ++j) C::widen(kept[slot][j], from[j]);
#pragma unroll
              for (int kx = 0; kx < K; ++kx) {
                float tap[WIDTH];
                load_taps(w + (ky * K + kx) * kTap, tap);
#pragma unroll
                for (int j = kx % STRIDE; j < COLUMNS; j += STRIDE)
#pragma unroll
                  for (int v = 0; v < WIDTH; ++v) {
                    float const p = g[(j - kx + K - 1) / STRIDE][v];
                    dx[slot][j][v] += p * tap[v];
                    tap_sum[ky * K + kx][v] += p * from[j][v];
                  }
              }
            }
          }
          // Rows of the gradient that are complete.
#pragma unroll
          for (int q = 0; q < STRIDE; ++q) {
            int const slot = (phase * STRIDE + q) % kSlots, b = out * STRIDE + q;
            bool const leave = maps.wants() && b >= upper && b < bottom;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) {
              if (leave && (inside >> (16 + j) & 1)) maps.leave(at + q * x_row + j * s.channels, dx[slot][j]);
#pragma unroll
              for (int v = 0; v < WIDTH; ++v) dx[slot][j][v] = 0;
            }
          }
          ++out;
          at += STRIDE * x_row;
          pre_at += pre_row;
        }
      }
    }
  }
  if (partial) {      // the same for all threads
    __syncthreads();  // the weights have been read
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) {
#pragma unroll
      for (int t = 0; t < K * K; ++t) part[(t * WIDTH + v) * kMarchThreads + threadIdx.x] = tap_sum[t][v];
      part[(K * K * WIDTH + v) * kMarchThreads + threadIdx.x] = bias_sum[v];
    }
    __syncthreads();
    for (int i = int(threadIdx.x); i < kValues * plan.lanes; i += kMarchThreads) {
      int const value = i / plan.lanes, at = (group * plan.lanes + i % plan.lanes) * WIDTH + value % WIDTH;
      if (at >= s.channels) continue;
      float sum = 0;
      for (int n = 0; n < side; ++n) sum += part[value * kMarchThreads + n * plan.lanes + i % plan.lanes];
      partial[(int64_t(chunk) * (K * K + 1) + value / WIDTH) * s.channels + at] = sum;
    }
  }
  maps.finish(part, chunk, beside, plan);
}
// Partial sums [chunks, taps + 1, channels] to the gradients of weight [channels, taps] and bias.
template <class T>
__global__ void depthwise_sum(float const* __restrict__ partial, T* __restrict__ weight_gradient,
                              T* __restrict__ bias_gradient, int chunks, int taps, int channels) {
  int const at = int(blockIdx.x * blockDim.x + threadIdx.x), stride = (taps + 1) * channels;
  if (at >= stride) return;
  float sum = 0;
#pragma unroll 8
  for (int n = 0; n < chunks; ++n) sum += partial[int64_t(n) * stride + at];
  int const tap = at / channels, channel = at % channels;
  if (tap < taps && weight_gradient) weight_gradient[int64_t(channel) * taps + tap] = T(sum);
  if (tap == taps && bias_gradient) bias_gradient[channel] = T(sum);
}

}  // namespace

}  // namespace leyolo

// The marching loop of the forward kernels: a thread owns two channels of COLUMNS output columns and walks down the
// rows. Every input row is read once, into registers, and added to all output rows that it reaches: L rows of sums are
// live, and the loop is unrolled over them, so that all indices are constants.
#pragma once

#include "core/channels.cuh"
#include "ops/depthwise_conv2d/depthwise_conv2d.cuh"

namespace leyolo {

// One thread's share: output rows [begin, end) of columns from `column` on, of an image whose values begin at `x` and
// `y`, channels counted in. load(at) gives the two values there, emit(at, sums) takes those of an output.
template <int K, int STRIDE, int COLUMNS, class Load, class Emit>
__device__ __forceinline__ void depthwise_march_rows(float2 const (&w)[K * K], DepthwiseSizes const& s, int begin,
                                                     int end, int column, int64_t x, int64_t y, Load&& load,
                                                     Emit&& emit) {
  constexpr int kLive = (K + STRIDE - 1) / STRIDE, kInputs = (COLUMNS - 1) * STRIDE + K;
  int const left = column * STRIDE - s.padding_w, pitch = s.width * s.channels;
  unsigned inside = 0;  // bit j: column left + j lies in the image; bit 16 + i: output i does
#pragma unroll
  for (int j = 0; j < kInputs; ++j) inside |= unsigned(left + j >= 0 && left + j < s.width) << j;
#pragma unroll
  for (int i = 0; i < COLUMNS; ++i) inside |= unsigned(column + i < s.out_width) << (16 + i);

  // Step t brings the last STRIDE input rows of output row t, which is then complete; the steps before `begin` only
  // fill the sums of the first rows.
  float2 sum[kLive][COLUMNS] = {};
  int row = (begin - kLive + 1) * STRIDE - s.padding_h + K - STRIDE;
  int64_t from = x + int64_t(row) * pitch + int64_t(left) * s.channels;
  int64_t to = y + (int64_t(begin) * s.out_width + column) * s.channels;
  for (int t = begin - kLive + 1; t < end; t += kLive) {
#pragma unroll
    for (int phase = 0; phase < kLive; ++phase) {
      if (t + phase >= end) break;
#pragma unroll
      for (int q = 0; q < STRIDE; ++q, ++row, from += pitch) {
        if (row < 0 || row >= s.height) continue;
#pragma unroll
        for (int j = 0; j < kInputs; ++j) {
          float2 const in = inside >> j & 1 ? load(from + j * s.channels) : float2{0, 0};
#pragma unroll
          for (int ahead = 0; ahead < kLive; ++ahead) {
            int const ky = K - STRIDE + q - ahead * STRIDE;
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) {
              int const kx = j - i * STRIDE;
              if (ky < 0 || kx < 0 || kx >= K) continue;
              float2& into = sum[(phase + ahead) % kLive][i];
              into.x += in.x * w[ky * K + kx].x;
              into.y += in.y * w[ky * K + kx].y;
            }
          }
        }
      }
      if (t + phase >= begin) {
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i)
          if (inside >> (16 + i) & 1) emit(to + i * s.channels, sum[phase][i]);
        to += s.out_width * s.channels;
      }
#pragma unroll
      for (int i = 0; i < COLUMNS; ++i) sum[phase][i] = {0, 0};
    }
  }
}

}  // namespace leyolo

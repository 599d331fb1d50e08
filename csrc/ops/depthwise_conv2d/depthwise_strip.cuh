// The inner loop that steps of `forward` and the fused block share: some output pixels of a row, two channels of each.
#pragma once

#include "core/vectors.cuh"

namespace leyolo {

constexpr int kStrip = 4;  // output pixels

// Adds one row of the window: `inputs` gives pixel j of the input row, `weights` tap j of the row of the kernel.
template <int K, int STRIDE, class Inputs, class Weights>
__device__ __forceinline__ void depthwise_row(float2 (&sum)[kStrip], Inputs&& inputs, Weights&& weights) {
  float2 w[K], in[(kStrip - 1) * STRIDE + K];
#pragma unroll
  for (int j = 0; j < K; ++j) w[j] = weights(j);
#pragma unroll
  for (int j = 0; j < (kStrip - 1) * STRIDE + K; ++j) in[j] = inputs(j);
#pragma unroll
  for (int i = 0; i < kStrip; ++i)
#pragma unroll
    for (int j = 0; j < K; ++j) {
      sum[i].x += in[i * STRIDE + j].x * w[j].x;
      sum[i].y += in[i * STRIDE + j].y * w[j].y;
    }
}

__device__ __forceinline__ float2 activate2(float2 v, Activation activation) {
  if (activation == Activation::silu) return {silu_device(v.x), silu_device(v.y)};
  return {activate_device(activation, v.x), activate_device(activation, v.y)};
}

}  // namespace leyolo

// Float32 on the FMA units, as float32 promises (no TF32), and the packing of weights. A block makes 64 pixels of 64
// channels, a thread 4 of 4; tiles of 16 values of the windows go through shared memory.
#include "ops/conv2d/conv2d_kernels.cuh"

namespace leyolo {

namespace {

constexpr int kTile = 64, kDepth = 16, kRow = kTile + 4;

template <class X>
__global__ void __launch_bounds__(kThreads)
    conv2d_float(X const* __restrict__ x, float const* __restrict__ weight, float const* __restrict__ bias,
                 float const* __restrict__ residual, float* __restrict__ y, Conv2dSizes s) {
  LEYOLO_SHARED(float, window, kDepth* kRow);
  LEYOLO_SHARED(float, weights, kDepth* kRow);
  int const thread = int(threadIdx.x), k = thread % kDepth, line = thread / kDepth;
  int const tile = int(blockIdx.x / unsigned(s.channel_tiles));
  int const first_channel = int(blockIdx.x - unsigned(tile * s.channel_tiles)) * kTile, first_pixel = tile * kTile;
  Conv2dPixel pixel[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pixel[i] = Conv2dPixel(first_pixel + line + 16 * i, s);
  int const mine = thread / 16 * 4, channels = thread % 16 * 4;
  float sum[4][4] = {};
  for (int begin = 0; begin < s.depth; begin += kDepth) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int const n = first_channel + line + 16 * i;
      window[k * kRow + line + 16 * i] = conv2d_value<float>(x, pixel[i], begin + k, s);
      weights[k * kRow + line + 16 * i] =
          n < s.out_channels && begin + k < s.row ? weight[int64_t(n) * s.row + begin + k] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kDepth; ++j) {
      float4 const a4 = *reinterpret_cast<float4 const*>(window + j * kRow + mine);
      float4 const b4 = *reinterpret_cast<float4 const*>(weights + j * kRow + channels);
      float const a[] = {a4.x, a4.y, a4.z, a4.w}, b[] = {b4.x, b4.y, b4.z, b4.w};
#pragma unroll
      for (int m = 0; m < 4; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) sum[m][n] += a[m] * b[n];
    }
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    int const p = first_pixel + mine + m;
    if (p >= s.pixels) continue;
    int const image = p / s.area;
    int64_t const rest = p - image * s.area;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      int const channel = first_channel + channels + n;
      if (channel >= s.out_channels) continue;
      float value = activate_device(s.activation, sum[m][n] + bias[channel]);
      if (residual) value += residual[image * s.residual_image + rest * s.residual_pitch + channel];
      y[image * s.y_image + rest * s.y_pitch + channel] = value;
    }
  }
}

template <class X>
void run(Conv2dImages const& a, Context const& context) {
  Conv2dSizes s = conv2d_sizes(a);
  s.channel_tiles = int(blocks(s.out_channels, kTile));
  auto const* const bias = static_cast<float const*>(a.packed);
  LEYOLO_LAUNCH(conv2d_float<X>, blocks(s.pixels, kTile) * unsigned(s.channel_tiles), kThreads, 0, context.stream,
                static_cast<X const*>(a.x), bias + conv2d_cuda_bias(s.out_channels), bias,
                static_cast<float const*>(a.residual), static_cast<float*>(a.y), s);
}

template <class T>
__global__ void pack(T const* weight, T const* bias, float* packed, int out, int in, int area, int row) {
  int64_t const at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  int const padded = int(conv2d_cuda_bias(out));
  if (at < padded) packed[at] = bias && at < out ? float(bias[at]) : 0.0f;
  if (at >= int64_t(out) * row) return;
  int64_t const o = at / row;
  int const k = int(at - o * row), tap = k / in;
  reinterpret_cast<T*>(packed + padded)[at] = k < area * in ? weight[(o * in + (k - tap * in)) * area + tap] : T(0.0f);
}

template <class T>
void run_pack(View weight, View bias, View packed, Context const& context) {
  int const out = int(weight.shape[0]), in = int(weight.shape[1]), area = int(weight.shape[2] * weight.shape[3]);
  int64_t const row = conv2d_cuda_row(int64_t(area) * in);
  LEYOLO_LAUNCH(pack<T>, blocks(out * row), kThreads, 0, context.stream, weight.as<T>(), bias ? bias.as<T>() : nullptr,
                packed.as<float>(), out, in, area, int(row));
}

}  // namespace

void conv2d_float_cuda(Conv2dImages const& a, Context const& context) {
  if (a.x_type == DType::u8) return run<uint8_t>(a, context);
  run<float>(a, context);
}

void conv2d_pack_cuda(View weight, View bias, View packed, Context const& context) {
  switch (weight.dtype) {
    case DType::f32: return run_pack<float>(weight, bias, packed, context);
    case DType::f16: return run_pack<__half>(weight, bias, packed, context);
    default: return run_pack<__nv_bfloat16>(weight, bias, packed, context);
  }
}

}  // namespace leyolo

// A thread makes two channels of four neighbouring pixels; neighbouring threads have neighbouring channels, so that
// loads are whole lines. Rows and columns that neighbours share come out of the L1 cache.
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/depthwise_conv2d/depthwise_strip.cuh"

namespace leyolo {

namespace {

struct Sizes {
  int64_t x_image, y_image;
  int height, width, out_height, out_width, x_pitch, y_pitch, channels, kernel, stride, padding, row;
  Activation activation;
};

template <class T, class Y, int K, int STRIDE>
__global__ void __launch_bounds__(kThreads, 4)
    depthwise_strips(T const* __restrict__ x, T const* __restrict__ weight, float const* __restrict__ bias,
                     Y* __restrict__ y, Sizes s, int64_t threads) {
  int64_t const id = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (id >= threads) return;
  int const pairs = s.channels / 2, strips = (s.out_width + kStrip - 1) / kStrip;
  int64_t const strip = id / pairs, line = strip / strips, image = line / s.out_height;
  int const channel = int(id - strip * pairs) * 2, column = int(strip - line * strips) * kStrip;
  int const row = int(line - image * s.out_height), left = column * STRIDE - s.padding;
  float2 const b = load2(bias + channel);
  float2 sum[kStrip] = {b, b, b, b};
#pragma unroll
  for (int ky = 0; ky < K; ++ky) {
    int const i = row * STRIDE - s.padding + ky;
    if (i < 0 || i >= s.height) continue;
    T const* const from = x + image * s.x_image + (int64_t(i) * s.width + left) * s.x_pitch + channel;
    T const* const taps = weight + ky * K * s.row + channel;
    depthwise_row<K, STRIDE>(
        sum,
        [&](int j) {
          return left + j >= 0 && left + j < s.width ? load2(from + int64_t(j) * s.x_pitch) : float2{0, 0};
        },
        [&](int j) { return load2(taps + j * s.row); });
  }
  Y* const to = y + image * s.y_image + (int64_t(row) * s.out_width + column) * s.y_pitch + channel;
#pragma unroll
  for (int i = 0; i < kStrip; ++i)
    if (column + i < s.out_width) store2(activate2(sum[i], s.activation), to + int64_t(i) * s.y_pitch);
}

// Any window, channels that are no whole pairs: one thread for one value.
template <class T, class Y>
__global__ void __launch_bounds__(kThreads)
    depthwise_values(T const* __restrict__ x, T const* __restrict__ weight, float const* __restrict__ bias,
                     Y* __restrict__ y, Sizes s, int64_t threads) {
  int64_t const id = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (id >= threads) return;
  int64_t const pixel = id / s.channels, line = pixel / s.out_width, image = line / s.out_height;
  int const channel = int(id - pixel * s.channels), column = int(pixel - line * s.out_width),
            row = int(line - image * s.out_height);
  float sum = bias[channel];
  for (int ky = 0; ky < s.kernel; ++ky)
    for (int kx = 0; kx < s.kernel; ++kx) {
      int const i = row * s.stride - s.padding + ky, j = column * s.stride - s.padding + kx;
      if (i < 0 || i >= s.height || j < 0 || j >= s.width) continue;
      sum += float(x[image * s.x_image + (int64_t(i) * s.width + j) * s.x_pitch + channel]) *
             float(weight[(ky * s.kernel + kx) * int64_t(s.row) + channel]);
    }
  y[image * s.y_image + (int64_t(row) * s.out_width + column) * s.y_pitch + channel] =
      Y(activate_device(s.activation, sum));
}

template <class T, class Y>
struct Maps {
  T const *x, *weight;
  float const* bias;
  Y* y;
};

template <class T, class Y, int K, int STRIDE>
void strips(Maps<T, Y> const& m, Sizes const& s, int64_t images, Context const& context) {
  int64_t const threads = images * s.out_height * ((s.out_width + kStrip - 1) / kStrip) * (s.channels / 2);
  LEYOLO_LAUNCH((depthwise_strips<T, Y, K, STRIDE>), blocks(threads), kThreads, 0, context.stream, m.x, m.weight,
                m.bias, m.y, s, threads);
}

template <class T, class Y>
void run(DepthwiseImages const& a, Context const& context) {
  Sizes const s{a.x_image,
                a.y_image,
                a.height,
                a.width,
                a.out_height,
                a.out_width,
                a.x_pitch,
                a.y_pitch,
                a.channels,
                a.kernel,
                a.stride,
                a.padding,
                int(depthwise_cuda_row(a.channels)),
                a.activation};
  auto const* const bias = static_cast<float const*>(a.packed);
  Maps<T, Y> const m{static_cast<T const*>(a.x), reinterpret_cast<T const*>(bias + depthwise_cuda_bias(a.channels)),
                     bias, static_cast<Y*>(a.y)};
  bool const even = (a.channels | a.x_pitch | a.y_pitch | a.x_image | a.y_image) % 2 == 0 &&
                    is_aligned(a.x, 2 * sizeof(T)) && is_aligned(a.y, 2 * sizeof(Y));
  switch (even ? 10 * a.kernel + a.stride : 0) {
    case 31: return strips<T, Y, 3, 1>(m, s, a.images, context);
    case 32: return strips<T, Y, 3, 2>(m, s, a.images, context);
    case 51: return strips<T, Y, 5, 1>(m, s, a.images, context);
    case 52: return strips<T, Y, 5, 2>(m, s, a.images, context);
    default:
      int64_t const threads = a.images * a.out_height * a.out_width * a.channels;
      LEYOLO_LAUNCH((depthwise_values<T, Y>), blocks(threads), kThreads, 0, context.stream, m.x, m.weight, m.bias, m.y,
                    s, threads);
  }
}

template <class T>
void run_type(DepthwiseImages const& a, Context const& context) {
  if (a.y_type == DType::f32) return run<T, float>(a, context);
  run<T, T>(a, context);
}

template <class T>
__global__ void pack(T const* weight, T const* bias, float* packed, int channels, int area) {
  int64_t const at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  int const padded = int(depthwise_cuda_bias(channels)), row = int(depthwise_cuda_row(channels));
  if (at < padded) packed[at] = bias && at < channels ? float(bias[at]) : 0.0f;
  if (at >= int64_t(area) * row) return;
  int64_t const tap = at / row, c = at - tap * row;
  reinterpret_cast<T*>(packed + padded)[at] = c < channels ? weight[c * area + tap] : T(0.0f);
}

template <class T>
void run_pack(View weight, View bias, View packed, Context const& context) {
  int const channels = int(weight.shape[0]), area = int(weight.shape[2] * weight.shape[3]);
  LEYOLO_LAUNCH(pack<T>, blocks(area * depthwise_cuda_row(channels)), kThreads, 0, context.stream, weight.as<T>(),
                bias ? bias.as<T>() : nullptr, packed.as<float>(), channels, area);
}

}  // namespace

void depthwise_images_cuda(DepthwiseImages const& a, DType type, Context const& context) {
  if (type == DType::f16) return run_type<__half>(a, context);
  if (type == DType::bf16) return run_type<__nv_bfloat16>(a, context);
  run<float, float>(a, context);
}

void depthwise_pack_cuda(View weight, View bias, View packed, Context const& context) {
  switch (weight.dtype) {
    case DType::f32: return run_pack<float>(weight, bias, packed, context);
    case DType::f16: return run_pack<__half>(weight, bias, packed, context);
    default: return run_pack<__nv_bfloat16>(weight, bias, packed, context);
  }
}

}  // namespace leyolo

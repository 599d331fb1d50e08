// Forward. Neighbouring threads have neighbouring channels: loads and stores are whole lines. The columns that
// neighbours share come out of the L1 cache.
#include <algorithm>

#include "ops/depthwise_conv2d/depthwise_march.cuh"

namespace leyolo {

namespace {

// Any window, either memory order: one thread for one output.
template <class T, class A>
__global__ void depthwise_any(T const* __restrict__ x, T const* __restrict__ weight, T const* __restrict__ bias,
                              T const* __restrict__ gradient, T* __restrict__ y, DepthwiseSizes s, int64_t outputs) {
  int64_t const at = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (at >= outputs) return;
  int64_t const plane = int64_t(s.out_height) * s.out_width;
  int64_t const c = s.planar ? at / plane % s.channels : at % s.channels;
  int64_t const pixel = s.planar ? at % plane : at / s.channels % plane;
  int64_t const image = at / (plane * s.channels);
  int64_t const top = pixel / s.out_width * s.stride_h - s.padding_h;
  int64_t const left = pixel % s.out_width * s.stride_w - s.padding_w;
  int64_t const area = int64_t(s.height) * s.width, step = s.planar ? 1 : s.channels;
  T const* const from = x + image * area * s.channels + (s.planar ? c * area : c);
  T const* const taps = weight + c * s.kernel_h * s.kernel_w;
  A sum = 0;
  for (int ky = 0; ky < s.kernel_h; ++ky) {
    int64_t const i = top + int64_t(ky) * s.dilation_h;
    if (i < 0 || i >= s.height) continue;
    for (int kx = 0; kx < s.kernel_w; ++kx) {
      int64_t const j = left + int64_t(kx) * s.dilation_w;
      if (j >= 0 && j < s.width) sum += A(from[(i * s.width + j) * step]) * A(taps[ky * s.kernel_w + kx]);
    }
  }
  if (bias) sum += A(bias[c]);
  y[at] = T(gradient ? A(gradient[at]) * activation_gradient_device(s.activation, sum)
                     : activate_device(s.activation, sum));
}

// ANY: every activation and the gradient's epilogue; else none and SiLU, which leaves registers for one block more.
template <class T, int K, bool ANY>
constexpr int kBlocks = (K == 3 ? 4 : 3) + (K < 7 && !ANY && sizeof(T) == 2);

template <class T, int K, int STRIDE, int COLUMNS, bool ANY>
__global__ void __launch_bounds__(kMarchThreads, kBlocks<T, K, ANY>)
    depthwise_march(T const* __restrict__ x, T const* __restrict__ weight, T const* __restrict__ bias,
                    T const* __restrict__ gradient, T* __restrict__ y, DepthwiseSizes s, unsigned pairs,
                    unsigned column_strips, unsigned row_strips, int rows, unsigned threads) {
  unsigned const id = blockIdx.x * kMarchThreads + threadIdx.x;
  if (id >= threads) return;
  unsigned const strip = id / pairs, line = strip / column_strips, image = line / row_strips;
  int const channel = int(id - strip * pairs) * 2, column = int(strip - line * column_strips) * COLUMNS;
  int const begin = int(line - image * row_strips) * rows, end = min(begin + rows, s.out_height);

  float2 w[K * K];
#pragma unroll
  for (int t = 0; t < K * K; ++t) w[t] = {float(weight[channel * K * K + t]), float(weight[(channel + 1) * K * K + t])};
  depthwise_march_rows<K, STRIDE, COLUMNS>(
      w, s, begin, end, column, int64_t(image) * s.height * s.width * s.channels + channel,
      int64_t(image) * s.out_height * s.out_width * s.channels + channel,
      [&](int64_t at) { return widen_pair<T>(load_pair(x + at)); },
      [&](int64_t at, float2 sum) {
        float2 const b = bias ? widen_pair<T>(load_pair(bias + channel)) : float2{0, 0};
        float2 z{sum.x + b.x, sum.y + b.y};
        if (ANY && gradient) {
          float2 const g = widen_pair<T>(load_pair(gradient + at));
          z.x = g.x * activation_gradient_device(s.activation, z.x);
          z.y = g.y * activation_gradient_device(s.activation, z.y);
        } else if (s.activation == Activation::silu) {
          z = {silu_device(z.x), silu_device(z.y)};
        } else if (ANY) {
          z = {activate_device(s.activation, z.x), activate_device(s.activation, z.y)};
        }
        store_pair(y + at, z);
      });
}

template <class T, int K, int STRIDE, int COLUMNS>
void march(View x, View weight, View bias, View gradient, View y, DepthwiseSizes const& s, Context const& context) {
  unsigned const pairs = unsigned(s.channels / 2), column_strips = blocks(s.out_width, COLUMNS);
  // Long strips read few rows twice; short ones keep a small problem from leaving the machine idle.
  int64_t const line = int64_t(s.images) * column_strips * pairs;
  int const rows = int(std::clamp<int64_t>(line * s.out_height / (1 << 17), 2, 32));
  unsigned const row_strips = blocks(s.out_height, rows);
  int64_t const threads = line * row_strips;
  // (For 7 x 7 nothing is won by the smaller one.)
  bool const any = K == 7 || gradient || (s.activation != Activation::none && s.activation != Activation::silu);
  auto const launch_with = [&](auto which) {
    LEYOLO_LAUNCH((depthwise_march<T, K, STRIDE, COLUMNS, decltype(which)::value>), blocks(threads, kMarchThreads),
                  kMarchThreads, 0, context.stream, x.as<T>(), weight.as<T>(), bias ? bias.as<T>() : nullptr,
                  gradient ? gradient.as<T>() : nullptr, y.as<T>(), s, pairs, column_strips, row_strips, rows,
                  unsigned(threads));
  };
  any ? launch_with(std::true_type()) : launch_with(std::bool_constant<K == 7>());
}

}  // namespace

int depthwise_march_kind(DepthwiseSizes const& s) {
  bool const square = s.kernel_h == s.kernel_w && s.stride_h == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1;
  bool const known = (s.kernel_h == 3 || s.kernel_h == 5 || s.kernel_h == 7) && s.stride_h <= 2;
  bool const small = int64_t(s.width) * s.channels < 1 << 28 && s.padding_h < s.kernel_h && s.padding_w < s.kernel_w;
  int64_t const values = int64_t(s.images) * s.out_height * s.out_width * s.channels;
  return square && known && small && !s.planar && s.channels % 2 == 0 && values < int64_t(1) << 31
             ? 10 * s.kernel_h + s.stride_h
             : 0;
}

void depthwise_forward_cuda(View x, View weight, View bias, View gradient, View y, Depthwise const& params,
                            Context const& context) {
  DepthwiseSizes const s = depthwise_sizes(x, weight, y, params);
  for_float_cuda(x.dtype, "depthwise_conv2d", [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_same_v<T, double>) {
      bool const fit = pairs_fit(s.channels, sizeof(T), x.data, y.data, bias ? bias.data : nullptr,
                                 gradient ? gradient.data : nullptr);
      switch (fit ? depthwise_march_kind(s) : 0) {
        case 31: return march<T, 3, 1, 4>(x, weight, bias, gradient, y, s, context);
        case 32: return march<T, 3, 2, 4>(x, weight, bias, gradient, y, s, context);
        case 51: return march<T, 5, 1, 4>(x, weight, bias, gradient, y, s, context);
        case 52: return march<T, 5, 2, 4>(x, weight, bias, gradient, y, s, context);
        case 71: return march<T, 7, 1, 2>(x, weight, bias, gradient, y, s, context);
        case 72: return march<T, 7, 2, 2>(x, weight, bias, gradient, y, s, context);
      }
    }
    using A = std::conditional_t<std::is_same_v<T, double>, double, float>;
    LEYOLO_LAUNCH((depthwise_any<T, A>), blocks(y.numel()), kThreads, 0, context.stream, x.as<T>(), weight.as<T>(),
                  bias ? bias.as<T>() : nullptr, gradient ? gradient.as<T>() : nullptr, y.as<T>(), s, y.numel());
  });
}

void depthwise_conv2d_cuda(View x, View weight, View bias, View y, Depthwise const& params, Context const& context) {
  depthwise_forward_cuda(x, weight, bias, View(), y, params, context);
}

}  // namespace leyolo

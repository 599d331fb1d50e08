// The pre-activation values are recomputed from x (one forward pass) rather than stored; then one pass for x and one
// for weight and bias, without atomics: the same bits for any number of threads.
#include <algorithm>
#include <cstring>

#include "core/activation_math.h"
#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_checks.h"

namespace leyolo {

LEYOLO_SIMD(void depthwise_pre_gradient(float const*, float*, Activation, long long count))
LEYOLO_SIMD(void depthwise_x_gradient(DepthwiseBackwardArgs const&, long long begin, long long end))
LEYOLO_SIMD(void depthwise_weight_gradient(DepthwiseBackwardArgs const&, long long begin, long long end))

namespace {

// float64, for gradient checks: plain loops, scattered from the outputs.
void backward_f64(View gradient, View x, View weight, View bias, View gx, View gw, View gb, Depthwise const& p) {
  int64_t const h = x.shape[1], w = x.shape[2], c = x.shape[3], oh = gradient.shape[1], ow = gradient.shape[2];
  int64_t const kh = weight.shape[2], kw = weight.shape[3];
  for (View const& v : {gx, gw, gb})
    if (v) std::memset(v.data, 0, size_t(v.numel()) * 8);
  double const *from = x.as<double>(), *taps = weight.as<double>(), *g = gradient.as<double>();
  auto const each_tap = [&](int64_t row, int64_t j, int64_t k, auto&& f) {
    for (int64_t ky = 0; ky < kh; ++ky)
      for (int64_t kx = 0; kx < kw; ++kx) {
        int64_t const yy = row % oh * p.stride[0] - p.padding[0] + ky * p.dilation[0];
        int64_t const xx = j * p.stride[1] - p.padding[1] + kx * p.dilation[1];
        if (yy >= 0 && yy < h && xx >= 0 && xx < w) f(((row / oh * h + yy) * w + xx) * c + k, (k * kh + ky) * kw + kx);
      }
  };
  for (int64_t row = 0; row < x.shape[0] * oh; ++row)
    for (int64_t j = 0; j < ow; ++j)
      for (int64_t k = 0; k < c; ++k) {
        double z = bias ? bias.as<double>()[k] : 0;
        each_tap(row, j, k, [&](int64_t i, int64_t t) { z += from[i] * taps[t]; });
        double const pre = g[(row * ow + j) * c + k] * activation_gradient(p.activation, z);
        if (gb) gb.as<double>()[k] += pre;
        each_tap(row, j, k, [&](int64_t i, int64_t t) {
          if (gx) gx.as<double>()[i] += pre * taps[t];
          if (gw) gw.as<double>()[t] += pre * from[i];
        });
      }
}

}  // namespace

void depthwise_conv2d_backward_cpu(View gradient, View x, View weight, View bias, View gx, View gw, View gb,
                                   View workspace, Depthwise const& params, Context const& context) {
  if (x.dtype == DType::f64) return backward_f64(gradient, x, weight, bias, gx, gw, gb, params);
  int64_t const kh = weight.shape[2], kw = weight.shape[3], size = depthwise_packed_size(weight.shape[0], kh, kw);
  float* scratch = workspace.as<float>();
  auto const take = [&](int64_t count) {
    float* const p = scratch;
    scratch += count;
    return p;
  };
  float *const packed = take(size), *const sums = take(size);
  depthwise_pack(weight, bias, {packed, DType::f32, Device::cpu, 1, {size}});
  std::fill_n(sums, size, 0.0f);
  float* const pre = take(gradient.numel() / std::max<int64_t>(1, gradient.shape[0]));
  bool const half = x.dtype != DType::f32;
  float *from = x.as<float>(), *g = gradient.as<float>(), *to = gx ? gx.as<float>() : nullptr;
  if (half) {
    from = take(x.numel()), g = take(gradient.numel()), to = gx ? take(x.numel()) : nullptr;
    to_float(x.data, x.dtype, from, x.numel(), context);
    to_float(gradient.data, gradient.dtype, g, gradient.numel(), context);
  }
  DepthwiseBackwardArgs b{depthwise_args(x, weight, gradient, packed, params), nullptr, pre, nullptr, sums, nullptr};
  DepthwiseArgs& a = b.forward;
  b.bias_gradient = sums + int64_t(a.padded) * kh * kw;
  int64_t const x_image = a.height * a.width * a.channels, y_image = a.out_height * a.out_width * a.channels;
  auto* const pre_gradient = LEYOLO_PICK(depthwise_pre_gradient);
  auto *const x_rows = LEYOLO_PICK(depthwise_x_gradient), *const weights = LEYOLO_PICK(depthwise_weight_gradient);
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    a.x = from + n * x_image;
    b.gradient = g + n * y_image;
    if (params.activation == Activation::none) {
      b.pre = const_cast<float*>(b.gradient);  // read only from here on
    } else {
      DepthwiseArgs forward = a;
      forward.activation = Activation::none;
      forward.y = pre;
      depthwise_image(forward, context);
      parallel_for(context, 0, y_image, 1 << 14, [&](int64_t begin, int64_t end) {
        pre_gradient(b.gradient + begin, pre + begin, params.activation, end - begin);
      });
    }
    if (to) {
      b.x_gradient = to + n * x_image;
      int64_t const per_row = a.width * a.channels * kh * kw;
      parallel_for(context, 0, a.height, 1 + 200000 / std::max<int64_t>(1, per_row),
                   [&](int64_t begin, int64_t end) { x_rows(b, begin, end); });
    }
    if (gw || gb)
      parallel_for(context, 0, a.padded / lanes(),
                   1 + 200000 / std::max<int64_t>(1, a.out_height * a.out_width * lanes() * kh * kw),
                   [&](int64_t begin, int64_t end) { weights(b, begin, end); });
  }
  if (half && gx) from_float(to, gx.data, gx.dtype, gx.numel(), context);
  for_float(x.dtype, "depthwise_conv2d", [&](auto zero) {
    using T = decltype(zero);
    for (int64_t c = 0; c < a.channels; ++c) {
      for (int64_t tap = 0; gw && tap < kh * kw; ++tap)
        gw.as<T>()[c * kh * kw + tap] = T(sums[(c / lanes() * kh * kw + tap) * lanes() + c % lanes()]);
      if (gb) gb.as<T>()[c] = T(b.bias_gradient[c]);
    }
  });
}

static int64_t workspace_cpu(View x, View weight, View y) {
  if (x.dtype == DType::f64) return 0;
  int64_t const copies = x.dtype == DType::f32 ? 0 : 2 * x.numel() + y.numel();
  return 4 * (2 * depthwise_packed_size(weight.shape[0], weight.shape[2], weight.shape[3]) +
              y.numel() / std::max<int64_t>(1, y.shape[0]) + copies);
}

int64_t depthwise_conv2d_backward_workspace(View x, View weight, View y, Depthwise const& params) {
  (void)params;  // only CUDA's depends on them
  return LEYOLO_DISPATCH("depthwise_conv2d", x.device, workspace_cpu(x, weight, y),
                         depthwise_conv2d_backward_workspace_cuda(x, weight, y, params));
}

void depthwise_conv2d_backward(View gradient, View x, View weight, View bias, View gx, View gw, View gb, View workspace,
                               Depthwise const& params, Context const& context) {
  depthwise_check(x, weight, bias, gradient, params);
  check(
      workspace.numel() * size_of(workspace.dtype) >= depthwise_conv2d_backward_workspace(x, weight, gradient, params),
      "depthwise_conv2d: the workspace of the backward pass is too small");
  check(!params.planar, "depthwise_conv2d: gradients are computed in NHWC memory");
  LEYOLO_DISPATCH("depthwise_conv2d", x.device,
                  depthwise_conv2d_backward_cpu(gradient, x, weight, bias, gx, gw, gb, workspace, params, context),
                  depthwise_conv2d_backward_cuda(gradient, x, weight, bias, gx, gw, gb, workspace, params, context));
}

}  // namespace leyolo

// The pre-activation values are recomputed from x (one forward pass) rather than stored; then one pass for x and one
// for weight and bias, whose sums of every image are added in order: the same bits for any number of threads.
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
LEYOLO_SIMD(void depthwise_weight_gradient(DepthwiseBackwardArgs const&, DepthwisePart const&))

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

namespace {

struct Scratch {
  float* next;
  float* take(int64_t count) {
    next += count;
    return next - count;
  }
};

// to = gradient * activation'(z) for all images.
void before_activation(DepthwiseArgs const& a, float const* gradient, int64_t images, Activation activation, float* to,
                       Context const& context) {
  auto* const multiply = LEYOLO_PICK(depthwise_pre_gradient);
  int64_t const row = a.out_width * a.channels;
  DepthwiseArgs z = a;
  z.activation = Activation::none;
  parallel_for(context, 0, images * a.out_height, 1 + 20000 / std::max<int64_t>(1, row),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   DepthwiseArgs one = z;
                   int64_t const image = i / a.out_height;
                   one.x = a.x + image * a.height * a.width * a.channels;
                   one.y = to + image * a.out_height * row;
                   depthwise_band(one, i % a.out_height, i % a.out_height + 1);
                   multiply(gradient + i * row, to + i * row, activation, row);
                 }
               });
}

}  // namespace

bool depthwise_mirrors(DepthwiseArgs const& a) {
  return a.stride_h == 1 && a.stride_w == 1 && a.dilation_h == 1 && a.dilation_w == 1 &&
         2 * a.padding_h == a.kernel_h - 1 && 2 * a.padding_w == a.kernel_w - 1;
}

void depthwise_mirror(float const* packed, float* to, int64_t taps, int64_t padded) {
  for (int64_t first = 0; first < padded * taps; first += taps * lanes())
    for (int64_t t = 0; t < taps; ++t)
      std::copy_n(packed + first + t * lanes(), lanes(), to + first + (taps - 1 - t) * lanes());
  std::fill_n(to + padded * taps, padded, 0.0f);
}

void depthwise_x_gradient_band(DepthwiseBackwardArgs const& b, float const* mirrored, int64_t begin, int64_t end) {
  if (!mirrored) return LEYOLO_PICK(depthwise_x_gradient)(b, begin, end);
  DepthwiseArgs a = b.forward;
  a.x = b.pre, a.y = b.x_gradient, a.weight = mirrored;
  a.bias = mirrored + int64_t(a.padded) * a.kernel_h * a.kernel_w;
  a.activation = Activation::none;
  depthwise_band(a, begin, end);
}

void depthwise_weight_gradient_band(DepthwiseBackwardArgs const& b, int64_t begin, int64_t end) {
  LEYOLO_PICK(depthwise_weight_gradient)(b, {begin, end, 0, b.forward.padded / lanes()});
}

void depthwise_conv2d_backward_cpu(View gradient, View x, View weight, View bias, View gx, View gw, View gb,
                                   View workspace, Depthwise const& params, Context const& context) {
  if (x.dtype == DType::f64) return backward_f64(gradient, x, weight, bias, gx, gw, gb, params);
  int64_t const taps = weight.shape[2] * weight.shape[3], images = x.shape[0],
                size = depthwise_packed_size(weight.shape[0], weight.shape[2], weight.shape[3]);
  Scratch scratch{workspace.as<float>()};
  float *const packed = scratch.take(size), *const mirrored = scratch.take(size);
  depthwise_pack(weight, bias, {packed, DType::f32, Device::cpu, 1, {size}});
  float* const sums = scratch.take(images * size);
  std::fill_n(sums, images * size, 0.0f);
  bool const half = x.dtype != DType::f32;
  float *from = x.as<float>(), *g = gradient.as<float>(), *to = gx ? gx.as<float>() : nullptr;
  if (half) {
    from = scratch.take(x.numel()), g = scratch.take(gradient.numel()), to = gx ? scratch.take(x.numel()) : nullptr;
    to_float(x.data, x.dtype, from, x.numel(), context);
    to_float(gradient.data, gradient.dtype, g, gradient.numel(), context);
  }
  DepthwiseArgs a = depthwise_args(x, weight, gradient, packed, params);
  a.x = from;
  float const* pre = g;
  if (params.activation != Activation::none && images > 0) {
    float* const made = scratch.take(gradient.numel());
    before_activation(a, g, images, params.activation, made, context);
    pre = made;
  }
  int64_t const x_image = a.height * a.width * a.channels, y_image = a.out_height * a.out_width * a.channels;
  auto const args_of = [&](int64_t image) {
    DepthwiseBackwardArgs b{a, pre + image * y_image, to + (to ? image * x_image : 0), sums + image * size, nullptr};
    b.forward.x += image * x_image;
    b.bias_gradient = b.weight_gradient + a.padded * taps;
    return b;
  };
  if (to) {
    bool const convolves = depthwise_mirrors(a);
    if (convolves) depthwise_mirror(packed, mirrored, taps, a.padded);
    parallel_for(context, 0, images * a.height, 1 + 200000 / std::max<int64_t>(1, a.width * a.channels * taps),
                 [&](int64_t begin, int64_t end) {
                   while (begin < end) {
                     int64_t const image = begin / a.height, first = begin % a.height,
                                   last = std::min<int64_t>(a.height, first + end - begin);
                     depthwise_x_gradient_band(args_of(image), convolves ? mirrored : nullptr, first, last);
                     begin += last - first;
                   }
                 });
  }
  if (gw || gb) {
    auto* const weights = LEYOLO_PICK(depthwise_weight_gradient);
    int64_t const blocks = a.padded / lanes();
    parallel_for(
        context, 0, images * blocks, 1 + 200000 / std::max<int64_t>(1, y_image / std::max<int64_t>(1, blocks) * taps),
        [&](int64_t begin, int64_t end) {
          while (begin < end) {
            int64_t const image = begin / blocks, first = begin % blocks, last = std::min(blocks, first + end - begin);
            weights(args_of(image), {0, a.out_height, first, last});
            begin += last - first;
          }
        });
    for (int64_t image = 1; image < images; ++image)
      for (int64_t i = 0; i < size; ++i) sums[i] += sums[image * size + i];
  }
  if (half && gx) from_float(to, gx.data, gx.dtype, gx.numel(), context);
  for_float(x.dtype, "depthwise_conv2d", [&](auto zero) {
    using T = decltype(zero);
    for (int64_t c = 0; c < a.channels; ++c) {
      for (int64_t tap = 0; gw && tap < taps; ++tap)
        gw.as<T>()[c * taps + tap] = images ? T(sums[(c / lanes() * taps + tap) * lanes() + c % lanes()]) : T(0.0f);
      if (gb) gb.as<T>()[c] = images ? T(sums[a.padded * taps + c]) : T(0.0f);
    }
  });
}

static int64_t workspace_cpu(View x, View weight, View y, Depthwise const& params) {
  if (x.dtype == DType::f64) return 0;
  int64_t const copies = x.dtype == DType::f32 ? 0 : 2 * x.numel() + y.numel(),
                pre = params.activation == Activation::none ? 0 : y.numel();
  return 4 *
         ((2 + x.shape[0]) * depthwise_packed_size(weight.shape[0], weight.shape[2], weight.shape[3]) + pre + copies);
}

int64_t depthwise_conv2d_backward_workspace(View x, View weight, View y, Depthwise const& params) {
  return LEYOLO_DISPATCH("depthwise_conv2d", x.device, workspace_cpu(x, weight, y, params),
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

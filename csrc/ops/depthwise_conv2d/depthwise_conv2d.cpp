#include "ops/depthwise_conv2d/depthwise_conv2d.h"

#include <algorithm>

#include "core/activation_math.h"
#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "core/transpose.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_checks.h"

namespace leyolo {

LEYOLO_SIMD(int depthwise_tile_pixels(long long out_width))
LEYOLO_SIMD(void depthwise_rows(DepthwiseArgs const&, long long begin, long long end))

int64_t depthwise_padded(int64_t channels) { return (channels + lanes() - 1) / lanes() * lanes(); }

int depthwise_strip(int64_t out_width) { return LEYOLO_PICK(depthwise_tile_pixels)(out_width); }

int64_t depthwise_packed_size(int64_t channels, int64_t kernel_h, int64_t kernel_w) {
  return depthwise_padded(channels) * (kernel_h * kernel_w + 1);
}

void depthwise_pack(View weight, View bias, View packed) {
  check_one_device("depthwise_conv2d", packed, {weight, bias});
  check(weight.rank == 4 && weight.shape[1] == 1, "depthwise_conv2d: weight must be [C, 1, kh, kw], got ", weight);
  int64_t const channels = weight.shape[0], taps = weight.shape[2] * weight.shape[3],
                width = depthwise_padded(channels);
  check(packed.dtype == DType::f32 && packed.numel() == width * (taps + 1),
        "depthwise_conv2d: packed must be float32 of depthwise_packed_size, got ", packed);
  for_float(weight.dtype, "depthwise_conv2d", [&](auto zero) {
    using T = decltype(zero);
    T const *w = weight.as<T>(), *b = bias ? bias.as<T>() : nullptr;
    float* to = packed.as<float>();
    for (int64_t first = 0; first < width; first += lanes()) {
      if constexpr (std::is_same_v<T, float>) {
        transpose(w + first * taps, taps, channels - first, taps, to, lanes());
        to += taps * lanes();
        continue;
      }
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t c = first; c < first + lanes(); ++c) *to++ = c < channels ? float(w[c * taps + tap]) : 0.0f;
    }
    for (int64_t c = 0; c < width; ++c) *to++ = b && c < channels ? float(b[c]) : 0.0f;
  });
}

void depthwise_band(DepthwiseArgs const& a, int64_t begin, int64_t end) { LEYOLO_PICK(depthwise_rows)(a, begin, end); }

static void depthwise_images(DepthwiseArgs const& a, int64_t images, Context const& context) {
  int64_t const per_row = a.out_width * a.channels * a.kernel_h * a.kernel_w;
  parallel_for(context, 0, images * a.out_height, std::max<int64_t>(1, 400000 / std::max<int64_t>(1, per_row)),
               [&](int64_t begin, int64_t end) {
                 while (begin < end) {
                   int64_t const image = begin / a.out_height, first = begin % a.out_height,
                                 last = std::min<int64_t>(a.out_height, first + end - begin);
                   DepthwiseArgs one = a;
                   one.x += image * a.height * a.width * a.x_pitch,
                       one.y += image * a.out_height * a.out_width * a.y_pitch;
                   depthwise_band(one, first, last);
                   begin += last - first;
                 }
               });
}

void depthwise_image(DepthwiseArgs const& a, Context const& context) { depthwise_images(a, 1, context); }

DepthwiseArgs depthwise_args(View x, View weight, View y, float const* packed, Depthwise const& p) {
  DepthwiseArgs a{};
  a.weight = packed;
  a.padded = int(depthwise_padded(x.shape[3]));
  a.bias = packed + int64_t(a.padded) * weight.shape[2] * weight.shape[3];
  a.height = x.shape[1], a.width = x.shape[2], a.out_height = y.shape[1], a.out_width = y.shape[2];
  a.channels = int(x.shape[3]);
  a.x_pitch = a.y_pitch = a.channels;
  a.kernel_h = int(weight.shape[2]), a.kernel_w = int(weight.shape[3]);
  a.stride_h = int(p.stride[0]), a.stride_w = int(p.stride[1]);
  a.padding_h = int(p.padding[0]), a.padding_w = int(p.padding[1]);
  a.dilation_h = int(p.dilation[0]), a.dilation_w = int(p.dilation[1]);
  a.activation = p.activation;
  return a;
}

void depthwise_check(View x, View weight, View bias, View y, Depthwise const& p) {
  check_one_device("depthwise_conv2d", x, {weight, bias, y});
  check(x.rank == 4, "depthwise_conv2d: x must be [N, C, H, W], got ", x);
  check(weight.rank == 4 && weight.shape[1] == 1 && weight.shape[0] == x.shape[3],
        "depthwise_conv2d: weight must be [C, 1, kh, kw] with the C = ", x.shape[3], " channels of x, got ", weight);
  check(weight.dtype == x.dtype && y.dtype == x.dtype && (!bias || bias.dtype == x.dtype),
        "depthwise_conv2d: x, weight and bias must share a dtype, got ", x, ", ", weight, ", ", bias);
  check(!bias || (bias.rank == 1 && bias.shape[0] == x.shape[3]), "depthwise_conv2d: bias must be [", x.shape[3],
        "], got ", bias);
  for (int d : {0, 1}) {
    check_window("depthwise_conv2d", weight.shape[2 + d], p.stride[d], p.padding[d], p.dilation[d]);
    int64_t const out = conv_output_size(x.shape[1 + d], weight.shape[2 + d], p.stride[d], p.padding[d], p.dilation[d]);
    check(out > 0, "depthwise_conv2d: the kernel ", weight, " does not fit into x ", x, " with padding ", p.padding[d]);
    check(y.rank == 4 && y.shape[1 + d] == out && y.shape[0] == x.shape[0] && y.shape[3] == x.shape[3],
          "depthwise_conv2d: y must hold [N, H', W', C] outputs, got ", y);
  }
}

// float64, for gradient checks: plain loops.
static void forward_f64(View x, View weight, View bias, View y, Depthwise const& p, Context const& context) {
  int64_t const h = x.shape[1], w = x.shape[2], c = x.shape[3], oh = y.shape[1], ow = y.shape[2];
  int64_t const kh = weight.shape[2], kw = weight.shape[3];
  double const *from = x.as<double>(), *taps = weight.as<double>(), *b = bias ? bias.as<double>() : nullptr;
  double* to = y.as<double>();
  parallel_for(context, 0, x.shape[0] * oh, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t j = 0; j < ow; ++j)
        for (int64_t k = 0; k < c; ++k) {
          double sum = b ? b[k] : 0;
          for (int64_t ky = 0; ky < kh; ++ky)
            for (int64_t kx = 0; kx < kw; ++kx) {
              int64_t const yy = row % oh * p.stride[0] - p.padding[0] + ky * p.dilation[0];
              int64_t const xx = j * p.stride[1] - p.padding[1] + kx * p.dilation[1];
              if (yy < 0 || yy >= h || xx < 0 || xx >= w) continue;
              sum += from[((row / oh * h + yy) * w + xx) * c + k] * taps[(k * kh + ky) * kw + kx];
            }
          to[(row * ow + j) * c + k] = activate(p.activation, sum);
        }
  });
}

int64_t depthwise_conv2d_workspace(View x, View weight, View y) {
  if (x.device == Device::cuda) return 0;
  if (x.dtype == DType::f64) return 0;
  int64_t const copies = x.dtype == DType::f32 ? 0 : x.numel() + y.numel();
  return 4 * (depthwise_packed_size(weight.shape[0], weight.shape[2], weight.shape[3]) + copies);
}

void depthwise_conv2d_cpu(View x, View weight, View bias, View y, View workspace, Depthwise const& params,
                          Context const& context) {
  if (x.dtype == DType::f64) return forward_f64(x, weight, bias, y, params, context);
  float* const packed = workspace.as<float>();
  int64_t const size = depthwise_packed_size(weight.shape[0], weight.shape[2], weight.shape[3]);
  depthwise_pack(weight, bias, {packed, DType::f32, Device::cpu, 1, {size}});
  bool const half = x.dtype != DType::f32;
  float* const from = half ? packed + size : x.as<float>();
  float* const to = half ? from + x.numel() : y.as<float>();
  if (half) to_float(x.data, x.dtype, from, x.numel(), context);
  DepthwiseArgs a = depthwise_args(x, weight, y, packed, params);
  a.x = from, a.y = to;
  depthwise_images(a, x.shape[0], context);
  if (half) from_float(to, y.data, y.dtype, y.numel(), context);
}

void depthwise_conv2d(View x, View weight, View bias, View y, View workspace, Depthwise const& params,
                      Context const& context) {
  depthwise_check(x, weight, bias, y, params);
  check(workspace.numel() * size_of(workspace.dtype) >= depthwise_conv2d_workspace(x, weight, y),
        "depthwise_conv2d: the workspace is too small");
  check(!overlap(x, y), "depthwise_conv2d: the output must not share memory with x");
  if (y.numel() == 0) return;
  LEYOLO_DISPATCH("depthwise_conv2d", x.device, depthwise_conv2d_cpu(x, weight, bias, y, workspace, params, context),
                  depthwise_conv2d_cuda(x, weight, bias, y, params, context));
}

}  // namespace leyolo

#include "ops/conv2d/conv2d.h"

#include <algorithm>

#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "core/transpose.h"
#include "ops/conv2d/conv2d_cuda.h"

namespace leyolo {

LEYOLO_SIMD(int conv2d_tile_pixels(int vectors))
LEYOLO_SIMD(void conv2d_pixels(Conv2dArgs const&, long long begin, long long end))
LEYOLO_SIMD(void conv2d_rows(Conv2dArgs const&, long long begin, long long end))

namespace {

int64_t padded(int64_t channels) { return (channels + lanes() - 1) / lanes() * lanes(); }

// Pieces of some 20 us at 100 GFLOP/s: below that a second thread costs more than it brings.
int64_t grain(int64_t multiplies_per_item) {
  return std::max<int64_t>(1, 1000000 / std::max<int64_t>(1, multiplies_per_item));
}

}  // namespace

int64_t conv2d_packed_size(int64_t out_channels, int64_t in_channels, int64_t kernel) {
  return padded(out_channels) * (kernel * kernel * in_channels + 1);
}

Conv2dTile conv2d_tile(int64_t out_channels, int64_t vector) {
  Conv2dTiles const tiles = Conv2dTiles::of(int(out_channels), lanes());
  int64_t first = 0;
  for (int i = 0; i < tiles.count; first += tiles.width(i++))
    if (vector < first + tiles.width(i)) return {LEYOLO_PICK(conv2d_tile_pixels)(tiles.width(i)), tiles.width(i)};
  return {0, 0};
}

float const* conv2d_packed_bias(float const* packed, int64_t out_channels, int64_t in_channels, int64_t kernel) {
  return packed + padded(out_channels) * kernel * kernel * in_channels;
}

int64_t conv2d_packed_size(View weight) {
  int64_t const out = weight.shape[0], in = weight.shape[1], kernel = weight.shape[2];
  return weight.device == Device::cpu ? conv2d_packed_size(out, in, kernel)
                                      : conv2d_cuda_packed_size(out, in, kernel, weight.dtype);
}

static void conv2d_pack_cpu(View weight, View bias, View packed);

void conv2d_pack(View weight, View bias, View packed, [[maybe_unused]] Context const& context) {
  check(weight.rank == 4 && weight.shape[2] == weight.shape[3] && weight.numel() > 0,
        "conv2d: weight must be [O, C, k, k] and not empty, got ", weight);
  check(!bias || (bias.rank == 1 && bias.shape[0] == weight.shape[0] && bias.dtype == weight.dtype),
        "conv2d: bias must be [O] in the dtype of weight ", weight, ", got ", bias);
  check_one_device("conv2d", packed, {weight, bias});
  check(weight.dtype == DType::f32 || weight.dtype == DType::f16 || weight.dtype == DType::bf16,
        "conv2d: weight must be float32, float16 or bfloat16, got ", weight);
  check(packed.dtype == DType::f32 && packed.numel() == conv2d_packed_size(weight),
        "conv2d: packed must be float32 of conv2d_packed_size, got ", packed);
  LEYOLO_DISPATCH("conv2d", weight.device, conv2d_pack_cpu(weight, bias, packed),
                  conv2d_pack_cuda(weight, bias, packed, context));
}

static void conv2d_pack_cpu(View weight, View bias, View packed) {
  int64_t const out = weight.shape[0], in = weight.shape[1], k = weight.shape[2];
  float* to = packed.as<float>();
  for_float(weight.dtype, "conv2d", [&](auto zero) {
    using T = decltype(zero);
    T const* w = weight.as<T>();
    Conv2dTiles const tiles = Conv2dTiles::of(int(out), lanes());
    for (int64_t i = 0, channel = 0; i < tiles.count; ++i) {
      int64_t const width = tiles.width(int(i)) * lanes(), last = channel + width;
      if constexpr (std::is_same_v<T, float>)
        if (k == 1) {  // packed anew at every call of some ops
          for (; channel < last; channel += lanes(), to += lanes())
            transpose(w + channel * in, in, out - channel, in, to, width);
          to += (in - 1) * width;
          continue;
        }
      for (int64_t tap = 0; tap < k * k; ++tap)
        for (int64_t c = 0; c < in; ++c)
          for (int64_t o = channel; o < last; ++o) *to++ = o < out ? float(w[(o * in + c) * k * k + tap]) : 0.0f;
      channel = last;
    }
    for (int64_t o = 0; o < padded(out); ++o) *to++ = bias && o < out ? float(bias.as<T>()[o]) : 0.0f;
  });
}

// A 1x1 convolution sees the image as one long row of pixels.
static bool pointwise(Conv2dArgs const& a) { return a.kernel == 1 && a.stride == 1 && a.padding == 0; }

void conv2d_band(Conv2dArgs const& a, int64_t begin, int64_t end) {
  if (pointwise(a))
    LEYOLO_PICK(conv2d_pixels)(a, begin * a.out_width, end * a.out_width);
  else
    LEYOLO_PICK(conv2d_rows)(a, begin, end);
}

void conv2d_image(Conv2dArgs const& a, Context const& context) {
  int64_t const per_pixel = int64_t(a.in_channels) * a.out_channels * a.kernel * a.kernel;
  if (pointwise(a)) {
    auto* const kernel = LEYOLO_PICK(conv2d_pixels);
    parallel_for(context, 0, a.out_height * a.out_width, std::max<int64_t>(16, grain(per_pixel)),
                 [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  } else {
    auto* const kernel = LEYOLO_PICK(conv2d_rows);
    parallel_for(context, 0, a.out_height, grain(per_pixel * a.out_width),
                 [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  }
}

int64_t conv2d_workspace(View x, View y, View residual) {
  return x.dtype == DType::f32 || x.device == Device::cuda ? 0
                                                           : x.numel() + y.numel() + (residual ? residual.numel() : 0);
}

static void conv2d_cpu(View x, View packed, View residual, View y, View workspace, int64_t kernel, Conv2d const& params,
                       Context const& context) {
  // Half inputs go through float32 copies.
  float* scratch = workspace ? workspace.as<float>() : nullptr;
  auto const floats = [&](View const& v) {
    if (v.dtype == DType::f32) return v.as<float>();
    float* const copy = scratch;
    scratch += v.numel();
    return copy;
  };
  float* const from = floats(x);
  float* const to = floats(y);
  float* const added = residual ? floats(residual) : nullptr;
  if (from != x.data) to_float(x.data, x.dtype, from, x.numel(), context);
  if (added && added != residual.data) to_float(residual.data, x.dtype, added, residual.numel(), context);
  int64_t const x_image = x.shape[1] * x.shape[2] * x.shape[3], y_image = y.shape[1] * y.shape[2] * y.shape[3];
  int64_t const in = x.shape[3], out = y.shape[3];
  for (int64_t n = 0; n < x.shape[0]; ++n)
    conv2d_image(
        {from + n * x_image, packed.as<float>(), conv2d_packed_bias(packed.as<float>(), out, in, kernel),
         added ? added + n * y_image : nullptr, to + n * y_image, x.shape[1], x.shape[2], y.shape[1], y.shape[2], in,
         out, out, int(in), int(out), int(kernel), int(params.stride), int(params.padding), params.activation},
        context);
  if (to != y.data) from_float(to, y.data, y.dtype, y.numel(), context);
}

void conv2d(View x, View packed, View residual, View y, View workspace, int64_t kernel, Conv2d const& params,
            Context const& context) {
  check(x.rank == 4 && x.shape[3] > 0, "conv2d: x must be [N, C, H, W] with at least one channel, got ", x);
  check_one_device("conv2d", x, {packed, residual, y, workspace});
  check(x.dtype == DType::f32 || x.dtype == DType::f16 || x.dtype == DType::bf16,
        "conv2d: x must be float32, float16 or bfloat16, got ", x);
  check_window("conv2d", kernel, params.stride, params.padding);
  check(y.dtype == x.dtype && y.rank == 4 && y.shape[0] == x.shape[0],
        "conv2d: y must be [N, O, H', W'] in the dtype of x, got ", y);
  int64_t const expected = x.device == Device::cpu ? conv2d_packed_size(y.shape[3], x.shape[3], kernel)
                                                   : conv2d_cuda_packed_size(y.shape[3], x.shape[3], kernel, x.dtype);
  check(packed.numel() == expected, "conv2d: packed weights of ", packed.numel(), " values do not fit ", x.shape[3],
        " -> ", y.shape[3], " channels, kernel ", kernel);
  for (int d : {1, 2})
    check(x.shape[d] + 2 * params.padding >= kernel &&
              y.shape[d] == conv_output_size(x.shape[d], kernel, params.stride, params.padding),
          "conv2d: kernel ", kernel, ", stride ", params.stride, ", padding ", params.padding, " do not lead from ", x,
          " to ", y);
  if (residual)
    check(residual.dtype == x.dtype && residual.rank == 4 && std::equal(y.shape, y.shape + 4, residual.shape),
          "conv2d: residual must be as the output ", y, ", got ", residual);
  check(!overlap(x, y) && !overlap(residual, y), "conv2d: the output must not share memory with x or residual");
  check(conv2d_workspace(x, y, residual) <= (workspace ? workspace.numel() : 0), "conv2d: the workspace is too small");
  if (y.numel() == 0) return;
  LEYOLO_DISPATCH("conv2d", x.device, conv2d_cpu(x, packed, residual, y, workspace, kernel, params, context),
                  conv2d_cuda(x, packed, residual, y, kernel, params, context));
}

}  // namespace leyolo

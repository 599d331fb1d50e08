#include "ops/conv2d/conv2d_bf16.h"

#include <algorithm>

#include "core/bf16.h"
#include "core/check.h"
#include "core/half.h"
#include "core/isa.h"

namespace leyolo {

LEYOLO_BF16(void conv2d_bf16_pixels(Conv2dBf16Args const&, long long begin, long long end))
LEYOLO_BF16(void conv2d_bf16_rows(Conv2dBf16Args const&, long long begin, long long end))

namespace {

constexpr int kLanes = 16;

int64_t padded(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

int64_t weight_words(int64_t out, int64_t in, int64_t kernel) { return padded(out) * kernel * kernel * ((in + 1) / 2); }

// Pieces of some 20 us at 200 GFLOP/s: below that a second thread costs more than it brings.
int64_t grain(int64_t multiplies_per_item) {
  return std::max<int64_t>(1, 2000000 / std::max<int64_t>(1, multiplies_per_item));
}

}  // namespace

int64_t conv2d_bf16_packed_size(int64_t out_channels, int64_t in_channels, int64_t kernel) {
  return weight_words(out_channels, in_channels, kernel) + padded(out_channels);
}

float const* conv2d_bf16_packed_bias(unsigned const* packed, int64_t out_channels, int64_t in_channels,
                                     int64_t kernel) {
  return reinterpret_cast<float const*>(packed + weight_words(out_channels, in_channels, kernel));
}

void conv2d_bf16_pack(View weight, View bias, Activation activation, View packed) {
  check(weight.rank == 4 && weight.shape[2] == weight.shape[3] && weight.numel() > 0 && weight.dtype == DType::f32,
        "conv2d: weight must be float32 [O, C, k, k] and not empty, got ", weight);
  check(!bias || (bias.rank == 1 && bias.shape[0] == weight.shape[0] && bias.dtype == DType::f32),
        "conv2d: bias must be float32 [", weight.shape[0], "], got ", bias);
  check_one_device("conv2d", packed, {weight, bias});
  int64_t const out = weight.shape[0], in = weight.shape[1], k = weight.shape[2];
  check(packed.dtype == DType::i32 && packed.numel() == conv2d_bf16_packed_size(out, in, k),
        "conv2d: packed must be int32 of conv2d_bf16_packed_size, got ", packed);
  float const scale = bf16_scale(activation);
  auto* to = packed.as<uint32_t>();
  Conv2dTiles const tiles = Conv2dTiles::of(int(out), kLanes);
  for (int64_t i = 0, channel = 0; i < tiles.count; ++i) {
    int64_t const width = tiles.width(int(i)) * kLanes;
    for (int64_t tap = 0; tap < k * k; ++tap)
      for (int64_t c = 0; c < in; c += 2)
        for (int64_t o = channel; o < channel + width; ++o) {
          auto const bits = [&](int64_t input) {
            return o < out && input < in ? bfloat16(scale * weight.as<float>()[(o * in + input) * k * k + tap]).bits
                                         : uint16_t(0);
          };
          *to++ = uint32_t(bits(c)) | uint32_t(bits(c + 1)) << 16;
        }
    channel += width;
  }
  auto* const biases = reinterpret_cast<float*>(to);
  for (int64_t o = 0; o < padded(out); ++o) biases[o] = bias && o < out ? scale * bias.as<float>()[o] : 0.0f;
}

// A 1x1 convolution sees the image as one long row of pixels.
static bool pointwise(Conv2dBf16Args const& a) { return a.kernel == 1 && a.stride == 1 && a.padding == 0; }

void conv2d_bf16_band(Conv2dBf16Args const& a, int64_t begin, int64_t end) {
  if (pointwise(a))
    LEYOLO_PICK_BF16(conv2d_bf16_pixels)(a, begin * a.out_width, end * a.out_width);
  else
    LEYOLO_PICK_BF16(conv2d_bf16_rows)(a, begin, end);
}

void conv2d_bf16_image(Conv2dBf16Args const& a, Context const& context) {
  int64_t const per_pixel = int64_t(a.in_channels) * a.out_channels * a.kernel * a.kernel;
  if (pointwise(a)) {
    auto* const kernel = LEYOLO_PICK_BF16(conv2d_bf16_pixels);
    parallel_for(context, 0, a.out_height * a.out_width, std::max<int64_t>(16, grain(per_pixel)),
                 [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  } else {
    auto* const kernel = LEYOLO_PICK_BF16(conv2d_bf16_rows);
    parallel_for(context, 0, a.out_height, grain(per_pixel * a.out_width),
                 [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
  }
}

}  // namespace leyolo

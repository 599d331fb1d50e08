#include "ops/depthwise_conv2d/depthwise_bf16.h"

#include <algorithm>

#include "core/bf16.h"
#include "core/check.h"
#include "core/half.h"
#include "core/isa.h"

namespace leyolo {

LEYOLO_BF16(void depthwise_bf16_rows(DepthwiseBf16Args const&, long long begin, long long end))

namespace {

using Blocks = DepthwiseBf16Blocks;

int64_t padded(int64_t channels) { return (channels + 15) / 16 * 16; }

int64_t weight_words(int64_t channels, int64_t kernel) { return padded(channels) * kernel * ((kernel + 1) / 2); }

}  // namespace

int64_t depthwise_bf16_packed_size(int64_t channels, int64_t kernel) {
  return weight_words(channels, kernel) + padded(channels);
}

float const* depthwise_bf16_packed_bias(unsigned const* packed, int64_t channels, int64_t kernel) {
  return reinterpret_cast<float const*>(packed + weight_words(channels, kernel));
}

void depthwise_bf16_pack(View weight, View bias, Activation activation, View packed) {
  check(weight.rank == 4 && weight.shape[1] == 1 && weight.shape[2] == weight.shape[3] && weight.numel() > 0 &&
            weight.dtype == DType::f32,
        "depthwise_conv2d: weight must be float32 [C, 1, k, k] and not empty, got ", weight);
  check(!bias || (bias.rank == 1 && bias.shape[0] == weight.shape[0] && bias.dtype == DType::f32),
        "depthwise_conv2d: bias must be float32 [", weight.shape[0], "], got ", bias);
  check_one_device("depthwise_conv2d", packed, {weight, bias});
  int const channels = int(weight.shape[0]), k = int(weight.shape[2]);
  check(packed.dtype == DType::i32 && packed.numel() == depthwise_bf16_packed_size(channels, k),
        "depthwise_conv2d: packed must be int32 of depthwise_bf16_packed_size, got ", packed);
  float const scale = bf16_scale(activation);
  auto* const words = packed.as<uint32_t>();
  auto* const biases = reinterpret_cast<float*>(words + weight_words(channels, k));
  int const pairs = (k + 1) / 2;
  for (int first = 0, block; first < channels; first += block) {
    block = Blocks::size(channels - first);
    for (int place = 0; place < block; ++place) {
      int const c = first + Blocks::channel(block, place);
      auto const bits = [&](int ky, int kx) {
        return c < channels ? bfloat16(scale * weight.as<float>()[(c * k + ky) * k + kx]).bits : uint16_t(0);
      };
      for (int ky = 0; ky < k; ++ky)
        for (int m = 0; m < pairs; ++m) {
          bool const alone = 2 * m + 1 == k;
          words[first * k * pairs + (ky * pairs + m) * block + place] =
              alone ? uint32_t(bits(ky, 2 * m)) << 16 : uint32_t(bits(ky, 2 * m)) | uint32_t(bits(ky, 2 * m + 1)) << 16;
        }
      biases[first + place] = bias && c < channels ? scale * bias.as<float>()[c] : 0.0f;
    }
  }
}

void depthwise_bf16_band(DepthwiseBf16Args const& a, int64_t begin, int64_t end) {
  LEYOLO_PICK_BF16(depthwise_bf16_rows)(a, begin, end);
}

void depthwise_bf16_image(DepthwiseBf16Args const& a, Context const& context) {
  int64_t const per_row = a.out_width * a.channels * a.kernel * a.kernel;
  parallel_for(context, 0, a.out_height, std::max<int64_t>(1, 800000 / std::max<int64_t>(1, per_row)),
               [&](int64_t begin, int64_t end) { depthwise_bf16_band(a, begin, end); });
}

}  // namespace leyolo

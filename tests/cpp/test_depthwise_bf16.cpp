#include "bf16.h"
#include "check.h"
#include "core/activation_math.h"
#include "core/conv_size.h"
#include "core/isa.h"
#include "ops/depthwise_conv2d/depthwise_bf16.h"

using namespace leyolo;

namespace {

void run(Array const& x, Array const& packed, Array const& y, int64_t h, int64_t w, int64_t channels, int64_t k,
         int64_t stride, Activation activation) {
  int64_t const p = k / 2, oh = conv_output_size(h, k, stride, p), ow = conv_output_size(w, k, stride, p);
  unsigned const* const words = packed.view.as<unsigned>();
  depthwise_bf16_image(
      {x.view.as<uint16_t>(), words, depthwise_bf16_packed_bias(words, channels, k), y.view.data, h, w, oh, ow,
       channels, channels, int(channels), int(k), int(stride), int(p), activation, y.view.dtype == DType::f32},
      test_context());
}

// Every output against plain loops in double; heap arrays of exactly the right size let AddressSanitizer watch the
// edges.
void compare(int64_t h, int64_t w, int64_t channels, int64_t k, int64_t stride, Activation activation,
             bool float_y = false) {
  if (!has_bf16_dot()) return;
  int64_t const p = k / 2, oh = conv_output_size(h, k, stride, p), ow = conv_output_size(w, k, stride, p);
  Array x = random_array({h, w, channels}, -1, 1, 1), weight = random_array({channels, 1, k, k}, -1, 1, 2),
        bias = random_array({channels}, -1, 1, 3);
  Array const x_half = to_bf16(x);
  Array packed(DType::i32, {depthwise_bf16_packed_size(channels, k)}),
      y(float_y ? DType::f32 : DType::bf16, {oh, ow, channels});
  depthwise_bf16_pack(weight.view, bias.view, activation, packed.view);
  run(x_half, packed, y, h, w, channels, k, stride, activation);
  std::vector<double> const packed_taps = packed_weights(weight, activation);
  for (int64_t i = 0; i < oh; ++i)
    for (int64_t j = 0; j < ow; ++j)
      for (int64_t c = 0; c < channels; ++c) {
        double sum = bias.data()[c], magnitude = std::fabs(sum);
        for (int64_t ky = 0; ky < k; ++ky)
          for (int64_t kx = 0; kx < k; ++kx) {
            int64_t const row = i * stride - p + ky, column = j * stride - p + kx;
            if (row < 0 || row >= h || column < 0 || column >= w) continue;
            double const term =
                double(x.data()[(row * w + column) * channels + c]) * packed_taps[size_t((c * k + ky) * k + kx)];
            sum += term, magnitude += std::fabs(term);
          }
        double const expected = activate(activation, sum);
        int64_t const at = (i * ow + j) * channels + c;
        CHECK_NEAR(float_y ? y.data()[at] : float(y.data<bfloat16>()[at]), expected,
                   bf16_tolerance(magnitude, k * k, expected, expected, float_y));
      }
}

}  // namespace

TEST(depthwise_bf16_of_every_size) {
  for (int64_t k : {1, 2, 3, 4, 5, 7, 9})
    for (int64_t stride : {1, 2, 3})
      for (int64_t channels : {1, 8, 16, 17, 31, 32, 33, 48, 50, 64}) {
        compare(11, 27, channels, k, stride, Activation::silu);
        compare(2, 3, channels, k, stride, Activation::none);
        compare(3, 13, channels, k, stride, Activation::silu, true);
      }
  compare(1, 1, 1, 5, 1, Activation::silu);
  compare(5, 41, 20, 3, 1, Activation::hardswish);
  compare(3, 22, 40, 5, 2, Activation::relu6);
}

TEST(depthwise_bf16_looks_at_its_window_only) {
  if (!has_bf16_dot()) return;
  for (int64_t k : {3, 5, 7})
    for (int64_t stride : {1, 2})
      for (int64_t bad = 0; bad < 25; ++bad) {
        Array x(DType::f32, {1, 25, 3}), weight = random_array({3, 1, k, k}, 1, 2, 5);
        for (int64_t c = 0; c < 3; ++c) x.data()[bad * 3 + c] = std::nanf("");
        Array const half = to_bf16(x);
        int64_t const ow = conv_output_size(25, k, stride, k / 2);
        Array packed(DType::i32, {depthwise_bf16_packed_size(3, k)}), y(DType::bf16, {1, ow, 3});
        depthwise_bf16_pack(weight.view, View(), Activation::none, packed.view);
        run(half, packed, y, 1, 25, 3, k, stride, Activation::none);
        for (int64_t j = 0; j < ow; ++j) {
          bool const inside = std::abs(bad - j * stride) <= k / 2;
          CHECK(std::isnan(float(y.data<bfloat16>()[j * 3 + 2])) == inside);
        }
      }
}

TEST(depthwise_bf16_pack_rejects_what_does_not_fit) {
  Array weight(DType::f32, {8, 1, 3, 3}), wide(DType::f32, {8, 2, 3, 3}), packed(DType::i32, {10});
  CHECK_THROWS(depthwise_bf16_pack(weight.view, View(), Activation::none, packed.view));
  CHECK_THROWS(depthwise_bf16_pack(wide.view, View(), Activation::none, packed.view));
}

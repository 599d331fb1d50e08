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

// The first channels in a map of half the size, read as if it had been upsampled: the same bits.
TEST(depthwise_bf16_reads_an_upsampled_map_by_index) {
  if (!has_bf16_dot()) return;
  for (int64_t k : {3, 9})
    for (int64_t low : {5, 16, 33, 64})
      for (int64_t other : {3, 32})
        for (int64_t w : {2, 4, 10, 12, 22})
          for (bool float_y : {false, true}) {
            int64_t const c = low + other, h = 6;
            DType const type = float_y ? DType::f32 : DType::bf16;
            Array x(DType::bf16, {h, w, c}),
                half = random_array({h / 2, w / 2, low}, -1, 1, 1), rest = random_array({h, w, other}, -1, 1, 2),
                weight = random_array({c, 1, k, k}, -1, 1, 3), bias = random_array({c}, -1, 1, 4), y(type, {h, w, c});
            Array const half_16 = to_bf16(half), rest_16 = to_bf16(rest);
            for (int64_t i = 0; i < h; ++i)
              for (int64_t j = 0; j < w; ++j)
                for (int64_t e = 0; e < c; ++e)
                  x.data<bfloat16>()[(i * w + j) * c + e] =
                      bfloat16(e < low ? half.data()[(i / 2 * (w / 2) + j / 2) * low + e]
                                       : rest.data()[(i * w + j) * other + e - low]);
            auto const packed = [&](int64_t first, int64_t count) {
              Array to(DType::i32, {depthwise_bf16_packed_size(count, k)});
              View part = weight.view, part_bias = bias.view;
              part.data = weight.data() + first * k * k, part_bias.data = bias.data() + first;
              part.shape[0] = part_bias.shape[0] = count;
              depthwise_bf16_pack(part, part_bias, Activation::silu, to.view);
              return to;
            };
            Array const first = packed(0, low), second = packed(low, other);
            unsigned const *const w_low = first.view.as<unsigned>(), *const w_other = second.view.as<unsigned>();
            DepthwiseBf16Args a{rest_16.view.as<uint16_t>(),
                                w_other,
                                depthwise_bf16_packed_bias(w_other, other, k),
                                y.view.data,
                                h,
                                w,
                                h,
                                w,
                                other,
                                c,
                                int(other),
                                int(k),
                                1,
                                int(k / 2),
                                Activation::silu,
                                float_y};
            a.low = {half_16.view.as<uint16_t>(), w_low, depthwise_bf16_packed_bias(w_low, low, k), low, int(low)};
            for (int64_t row = 0; row < h; row += 4) depthwise_bf16_band(a, row, std::min<int64_t>(row + 4, h));
            // Each part apart, from the whole map.
            for (int64_t from : {int64_t(0), low}) {
              int64_t const count = from ? other : low;
              Array expected(type, {h, w, count});
              unsigned const* const words = from ? w_other : w_low;
              depthwise_bf16_image(
                  {x.view.as<uint16_t>() + from, words, depthwise_bf16_packed_bias(words, count, k), expected.view.data,
                   h, w, h, w, c, count, int(count), int(k), 1, int(k / 2), Activation::silu, float_y},
                  test_context());
              int64_t const size = size_of(type);
              for (int64_t i = 0; i < h * w; ++i)
                CHECK(std::memcmp(static_cast<char*>(y.view.data) + (i * c + from) * size,
                                  static_cast<char*>(expected.view.data) + i * count * size,
                                  size_t(count * size)) == 0);
            }
          }
}

TEST(depthwise_bf16_pack_rejects_what_does_not_fit) {
  Array weight(DType::f32, {8, 1, 3, 3}), wide(DType::f32, {8, 2, 3, 3}), packed(DType::i32, {10});
  CHECK_THROWS(depthwise_bf16_pack(weight.view, View(), Activation::none, packed.view));
  CHECK_THROWS(depthwise_bf16_pack(wide.view, View(), Activation::none, packed.view));
}

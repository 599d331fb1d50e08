#include "bf16.h"
#include "check.h"
#include "core/activation_math.h"
#include "core/conv_size.h"
#include "core/isa.h"
#include "ops/conv2d/conv2d_bf16.h"

using namespace leyolo;

namespace {

struct Case {
  int64_t h, w, in, out, k, stride;
  Activation activation = Activation::silu;
  bool residual = false, float_y = false;
};

// Every output against plain loops in double; heap arrays of exactly the right size let AddressSanitizer watch the
// edges.
void compare(Case const& t) {
  if (!has_bf16_dot()) return;
  int64_t const p = t.k / 2, oh = conv_output_size(t.h, t.k, t.stride, p), ow = conv_output_size(t.w, t.k, t.stride, p);
  Array x = random_array({t.h, t.w, t.in}, -1, 1, 1), weight = random_array({t.out, t.in, t.k, t.k}, -1, 1, 2),
        bias = random_array({t.out}, -1, 1, 3), residual = random_array({oh, ow, t.out}, -1, 1, 4);
  Array const x_half = to_bf16(x), residual_half = to_bf16(residual);
  Array packed(DType::i32, {conv2d_bf16_packed_size(t.out, t.in, t.k)});
  Array y(t.float_y ? DType::f32 : DType::bf16, {oh, ow, t.out});
  conv2d_bf16_pack(weight.view, bias.view, t.activation, packed.view);
  unsigned const* const words = packed.data<unsigned>();
  conv2d_bf16_image({x_half.view.as<uint16_t>(), words, conv2d_bf16_packed_bias(words, t.out, t.in, t.k),
                     t.residual ? residual_half.view.as<uint16_t>() : nullptr, y.view.data, t.h, t.w, oh, ow, t.in,
                     t.out, t.out, int(t.in), int(t.out), int(t.k), int(t.stride), int(p), t.activation, t.float_y},
                    test_context());
  std::vector<double> const w = packed_weights(weight, t.activation);
  for (int64_t i = 0; i < oh; ++i)
    for (int64_t j = 0; j < ow; ++j)
      for (int64_t o = 0; o < t.out; ++o) {
        int64_t const at = (i * ow + j) * t.out + o;
        double sum = bias.data()[o], magnitude = std::fabs(sum);
        for (int64_t ky = 0; ky < t.k; ++ky)
          for (int64_t kx = 0; kx < t.k; ++kx) {
            int64_t const r = i * t.stride - p + ky, c = j * t.stride - p + kx;
            if (r < 0 || r >= t.h || c < 0 || c >= t.w) continue;
            for (int64_t m = 0; m < t.in; ++m) {
              double const term =
                  double(x.data()[(r * t.w + c) * t.in + m]) * w[size_t(((o * t.in + m) * t.k + ky) * t.k + kx)];
              sum += term, magnitude += std::fabs(term);
            }
          }
        double const activated = activate(t.activation, sum),
                     expected = activated + (t.residual ? residual.data()[at] : 0.0f);
        double const got = t.float_y ? y.data()[at] : float(y.data<bfloat16>()[at]);
        CHECK_NEAR(got, expected, bf16_tolerance(magnitude, t.in * t.k * t.k, activated, expected, t.float_y));
      }
}

}  // namespace

TEST(conv2d_bf16_pointwise_with_every_tail) {
  for (int64_t in : {1, 2, 7, 16})
    for (int64_t out : {1, 15, 16, 17, 33, 48, 50, 64, 80, 88})
      for (int64_t pixels : {1, 5, 17}) {
        compare({1, pixels, in, out, 1, 1, Activation::silu, true});
        compare({1, pixels, in, out, 1, 1, Activation::none, false, true});
      }
}

TEST(conv2d_bf16_windows_over_the_border) {
  for (int64_t in : {1, 3, 4, 16}) {
    compare({9, 11, in, 16, 3, 2});
    compare({1, 1, in, 20, 3, 1, Activation::relu, true});
    compare({2, 3, in, 9, 5, 1, Activation::none, true});
    compare({8, 21, in, 24, 3, 1, Activation::hardswish, true});
    compare({7, 50, in, 70, 3, 2, Activation::silu, true, true});
  }
}

TEST(conv2d_bf16_sees_no_value_behind_an_odd_last_channel) {
  if (!has_bf16_dot()) return;
  float const nan = std::nanf("");
  Array x(DType::f32, {1, 2, 1}), weight(DType::f32, {1, 1, 1, 1});
  x.data()[0] = 1, x.data()[1] = nan, weight.data()[0] = 2;
  Array const half = to_bf16(x);
  Array packed(DType::i32, {conv2d_bf16_packed_size(1, 1, 1)}), y(DType::f32, {1, 2, 1});
  conv2d_bf16_pack(weight.view, View(), Activation::none, packed.view);
  unsigned const* const words = packed.data<unsigned>();
  conv2d_bf16_image({half.view.as<uint16_t>(), words, conv2d_bf16_packed_bias(words, 1, 1, 1), nullptr, y.view.data, 1,
                     2, 1, 2, 1, 1, 1, 1, 1, 1, 1, 0, Activation::none, true},
                    test_context());
  CHECK(y.data()[0] == 2);
  CHECK(std::isnan(y.data()[1]));
}

TEST(silu_of_large_arguments_saturates) {
  if (!has_bf16_dot()) return;
  float const infinity = std::numeric_limits<float>::infinity();
  float const values[] = {0, 40, 1e4f, 3e38f, infinity, -40, -1e4f, -3e38f};
  Array x(DType::f32, {1, 8, 1}), weight(DType::f32, {1, 1, 1, 1});
  for (int i = 0; i < 8; ++i) x.data()[i] = values[i];
  weight.data()[0] = 0.69314718f;  // the argument itself, after the scaling
  Array const half = to_bf16(x);
  Array packed(DType::i32, {conv2d_bf16_packed_size(1, 1, 1)}), y(DType::f32, {1, 8, 1});
  conv2d_bf16_pack(weight.view, View(), Activation::silu, packed.view);
  unsigned const* const words = packed.data<unsigned>();
  conv2d_bf16_image({half.view.as<uint16_t>(), words, conv2d_bf16_packed_bias(words, 1, 1, 1), nullptr, y.view.data, 1,
                     8, 1, 8, 1, 1, 1, 1, 1, 1, 1, 0, Activation::silu, true},
                    test_context());
  for (int i = 0; i < 8; ++i) {
    double const z = double(x.data()[i]) * packed_weights(weight, Activation::silu)[0];
    if (values[i] > 0)
      CHECK(y.data()[i] == infinity || std::fabs(y.data()[i] / z - 1) < 1e-3);
    else
      CHECK(y.data()[i] <= 0 && y.data()[i] > -1e-9);
  }
}

TEST(conv2d_bf16_pack_rejects_what_does_not_fit) {
  Array weight(DType::f32, {8, 3, 1, 1}), half(DType::bf16, {8, 3, 1, 1}), packed(DType::i32, {10});
  CHECK_THROWS(conv2d_bf16_pack(weight.view, View(), Activation::none, packed.view));
  CHECK_THROWS(conv2d_bf16_pack(half.view, View(), Activation::none, packed.view));
}

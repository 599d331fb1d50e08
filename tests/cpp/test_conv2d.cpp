#include "check.h"
#include "core/activation_math.h"
#include "ops/conv2d/conv2d.h"
#include "tensor.h"

using namespace leyolo;

namespace {

// Every output against plain loops in double; heap arrays of exactly the right size let AddressSanitizer watch the
// edges.
void compare(int64_t h, int64_t w, int64_t in, int64_t out, int64_t k, int64_t stride, bool with_residual) {
  int64_t const p = k / 2, oh = conv_output_size(h, k, stride, p), ow = conv_output_size(w, k, stride, p);
  Array x = random_array({1, h, w, in}, -1, 1, 1), weight = random_array({out, in, k, k}, -1, 1, 2),
        bias = random_array({out}, -1, 1, 3), residual = random_array({1, oh, ow, out}, -1, 1, 4);
  Array packed(DType::f32, {conv2d_packed_size(out, in, k)}), y(DType::f32, {1, oh, ow, out});
  conv2d_pack(weight.view, bias.view, packed.view);
  conv2d(x.view, packed.view, with_residual ? residual.view : View(), y.view, View(), k, {stride, p, Activation::silu},
         test_context());
  for (int64_t i = 0; i < oh; ++i)
    for (int64_t j = 0; j < ow; ++j)
      for (int64_t o = 0; o < out; ++o) {
        double sum = bias.data()[o];
        for (int64_t ky = 0; ky < k; ++ky)
          for (int64_t kx = 0; kx < k; ++kx) {
            int64_t const r = i * stride - p + ky, c = j * stride - p + kx;
            if (r < 0 || r >= h || c < 0 || c >= w) continue;
            for (int64_t m = 0; m < in; ++m)
              sum += double(x.data()[(r * w + c) * in + m]) * weight.data()[((o * in + m) * k + ky) * k + kx];
          }
        double expected = activate(Activation::silu, sum);
        if (with_residual) expected += residual.data()[(i * ow + j) * out + o];
        CHECK_NEAR(y.data()[(i * ow + j) * out + o], expected, 2e-5 * std::sqrt(1 + double(in * k * k) / 50));
      }
}

// 1x1 with an addend at half the resolution, whose pixels do not follow one another; output rows [begin, h).
void compare_addend(int64_t h, int64_t w, int64_t in, int64_t out, Activation activation, bool with_residual,
                    int64_t begin = 0) {
  int64_t const low_w = w / 2, pitch = out + 3;
  Array x = random_array({h, w, in}, -1, 1, 1), weight = random_array({out, in, 1, 1}, -1, 1, 2),
        bias = random_array({out}, -1, 1, 3), residual = random_array({h, w, out}, -1, 1, 4),
        addend = random_array({(h / 2 * low_w - 1) * pitch + out}, -3, 3, 5);
  Array packed(DType::f32, {conv2d_packed_size(out, in, 1)}), y = random_array({h, w, out}, 7, 8, 6);
  conv2d_pack(weight.view, bias.view, packed.view);
  Conv2dArgs a{x.data(),
               packed.data(),
               conv2d_packed_bias(packed.data(), out, in, 1),
               with_residual ? residual.data() : nullptr,
               y.data(),
               h,
               w,
               h,
               w,
               in,
               out,
               out,
               int(in),
               int(out),
               1,
               1,
               0,
               activation};
  a.addend = addend.data();
  a.addend_pitch = pitch;
  if (begin > 0)
    conv2d_band(a, begin, h);
  else
    conv2d_image(a, test_context());
  for (int64_t i = 0; i < h; ++i)
    for (int64_t j = 0; j < w; ++j)
      for (int64_t o = 0; o < out; ++o) {
        float const got = y.data()[(i * w + j) * out + o];
        if (i < begin) {
          CHECK(got >= 7);
          continue;
        }
        double sum = double(bias.data()[o]) + addend.data()[(i / 2 * low_w + j / 2) * pitch + o];
        for (int64_t m = 0; m < in; ++m) sum += double(x.data()[(i * w + j) * in + m]) * weight.data()[o * in + m];
        double const expected =
            activate(activation, sum) + (with_residual ? residual.data()[(i * w + j) * out + o] : 0);
        CHECK_NEAR(got, expected, 2e-5 * std::sqrt(1 + double(in) / 50));
      }
}

}  // namespace

TEST(conv2d_pointwise_with_every_tail) {
  for (int64_t out : {1, 15, 16, 33, 48, 64, 80, 88})
    for (int64_t pixels : {1, 5, 17}) compare(1, pixels, 7, out, 1, 1, true);
}

// SiLU is computed a tile later: whole tiles and a tail of pixels, shallow tiles and deep ones.
TEST(conv2d_pointwise_silu) {
  for (int64_t out : {1, 16, 24, 48, 64, 88})
    for (int64_t in : {1, 16, 24, 70})
      for (int64_t pixels : {1, 14, 43}) compare(1, pixels, in, out, 1, 1, false);
  compare(3, 40, 16, 40, 1, 2, false);
}

// Tiles go over the ends of rows, and the last ones overlap those before.
TEST(conv2d_pointwise_with_an_addend) {
  for (int64_t out : {1, 16, 20, 40, 64, 88})
    for (int64_t w : {2, 10, 16, 26})
      for (int64_t h : {2, 6}) {
        compare_addend(h, w, 24, out, Activation::silu, false);
        compare_addend(h, w, 5, out, Activation::silu, true);
        compare_addend(h, w, 16, out, Activation::none, false);
        compare_addend(h, w, 16, out, Activation::relu, h > 2, h / 2);
        compare_addend(h, w, 3, out, Activation::silu, false, 1);
      }
}

// Tiles that go over the ends of rows.
TEST(conv2d_windows_of_many_channels) {
  for (int64_t out : {16, 20, 40, 64, 96})
    for (bool residual : {false, true}) compare(9, 11, 17, out, 3, 2, residual);
  compare(7, 8, 16, 70, 5, 1, true);
  compare(1, 30, 24, 24, 3, 1, false);
  compare(30, 1, 24, 24, 3, 2, false);
  compare(3, 3, 30, 20, 3, 1, false);  // just a tile and a pixel
  compare(2, 3, 30, 20, 3, 1, false);  // less than a tile
  compare(4, 5, 515, 8, 3, 1, false);
}

TEST(conv2d_windows_over_the_border) {
  compare(9, 11, 3, 16, 3, 2, false);
  compare(9, 69, 3, 24, 3, 2, false);
  compare(1, 1, 4, 20, 3, 1, true);
  compare(2, 3, 5, 9, 5, 1, false);
  compare(8, 21, 4, 24, 3, 1, true);
}

TEST(conv2d_rejects_what_does_not_fit) {
  Array x(DType::f32, {1, 4, 4, 3}), packed(DType::f32, {10}), y(DType::f32, {1, 4, 4, 8});
  CHECK_THROWS(conv2d(x.view, packed.view, View(), y.view, View(), 1, {}, test_context()));
}

#include <algorithm>
#include <cstring>

#include "check.h"
#include "core/activation_math.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "tensor.h"

using namespace leyolo;

namespace {

struct Case {
  int64_t h, w, c, kh, kw;
  Depthwise params;
};

double at(Case const& t, Array& x, Array& weight, int64_t i, int64_t j, int64_t c) {
  double sum = 0;
  for (int64_t ky = 0; ky < t.kh; ++ky)
    for (int64_t kx = 0; kx < t.kw; ++kx) {
      int64_t const row = i * t.params.stride[0] - t.params.padding[0] + ky * t.params.dilation[0];
      int64_t const column = j * t.params.stride[1] - t.params.padding[1] + kx * t.params.dilation[1];
      if (row < 0 || row >= t.h || column < 0 || column >= t.w) continue;
      sum += double(x.data()[(row * t.w + column) * t.c + c]) * weight.data()[(c * t.kh + ky) * t.kw + kx];
    }
  return sum;
}

void compare(Case t) {
  auto const& p = t.params;
  int64_t const oh = conv_output_size(t.h, t.kh, p.stride[0], p.padding[0], p.dilation[0]);
  int64_t const ow = conv_output_size(t.w, t.kw, p.stride[1], p.padding[1], p.dilation[1]);
  Array x = random_array({1, t.h, t.w, t.c}, -1, 1, 1), weight = random_array({t.c, 1, t.kh, t.kw}, -1, 1, 2),
        bias = random_array({t.c}, -1, 1, 3), y(DType::f32, {1, oh, ow, t.c});
  Array workspace(DType::u8, {depthwise_conv2d_workspace(x.view, weight.view, y.view)});
  depthwise_conv2d(x.view, weight.view, bias.view, y.view, workspace.view, p, test_context());
  for (int64_t i = 0; i < oh; ++i)
    for (int64_t j = 0; j < ow; ++j)
      for (int64_t c = 0; c < t.c; ++c)
        CHECK_NEAR(y.data()[(i * ow + j) * t.c + c], activate(p.activation, at(t, x, weight, i, j, c) + bias.data()[c]),
                   1e-5);

  // Gradients: the sum of the weight gradient times the weight must equal the sum of gradient' times z without bias.
  Array g = random_array({1, oh, ow, t.c}, -1, 1, 4), gx(DType::f32, {1, t.h, t.w, t.c}),
        gw(DType::f32, {t.c, 1, t.kh, t.kw}), gb(DType::f32, {t.c});
  Array scratch(DType::u8, {depthwise_conv2d_backward_workspace(x.view, weight.view, y.view, p)});
  depthwise_conv2d_backward(g.view, x.view, weight.view, bias.view, gx.view, gw.view, gb.view, scratch.view, p,
                            test_context());
  double expected = 0, by_weight = 0, by_x = 0;
  for (int64_t i = 0; i < oh; ++i)
    for (int64_t j = 0; j < ow; ++j)
      for (int64_t c = 0; c < t.c; ++c) {
        double const z = at(t, x, weight, i, j, c);
        expected += g.data()[(i * ow + j) * t.c + c] * activation_gradient(p.activation, z + bias.data()[c]) * z;
      }
  for (int64_t i = 0; i < gw.view.numel(); ++i) by_weight += double(gw.data()[i]) * weight.data()[i];
  for (int64_t i = 0; i < gx.view.numel(); ++i) by_x += double(gx.data()[i]) * x.data()[i];
  CHECK_NEAR(by_weight, expected, 1e-3);
  CHECK_NEAR(by_x, expected, 1e-3);
}

}  // namespace

TEST(depthwise_strips_and_tails) {
  for (int64_t k : {3, 5, 7})
    for (int64_t stride : {1, 2})
      for (int64_t c : {1, 16, 21})
        for (int64_t w : {3, 10, 23})
          compare({7, w, c, k, k, {{stride, stride}, {k / 2, k / 2}, {1, 1}, Activation::silu}});
}

// Wide and narrow strips that fit or overlap, one row or one column, padding of nothing or of more than half the
// kernel.
TEST(depthwise_sizes_around_a_tile) {
  for (int64_t k : {3, 5})
    for (int64_t stride : {1, 2})
      for (int64_t padding : {int64_t(0), k / 2, k - 1})
        for (int64_t w : {1, 4, 5, 9, 11, 14, 16, 19, 20, 41})
          for (int64_t h : {1, 2, 6})
            if (h + 2 * padding >= k && w + 2 * padding >= k)
              compare({h, w, 17, k, k, {{stride, stride}, {padding, padding}, {1, 1}, Activation::none}});
}

// Chains ask for bands of any height and lay maps beside each other.
TEST(depthwise_bands_and_pitches) {
  for (int64_t k : {3, 5, 7})
    for (int64_t stride : {1, 2})
      for (int64_t c : {16, 21})
        for (int64_t w : {6, 33}) {
          int64_t const h = 11, oh = (h - 1) / stride + 1, ow = (w - 1) / stride + 1, xp = c + 3, yp = c + 5;
          Array x = random_array({1, h, w, xp}, -1, 1, 1), weight = random_array({c, 1, k, k}, -1, 1, 2),
                bias = random_array({c}, -1, 1, 3), packed(DType::f32, {depthwise_packed_size(c, k, k)});
          for (int64_t i = 0; i < x.view.numel(); ++i)
            if (i % xp >= c) x.data()[i] = NAN;  // a neighbour's
          depthwise_pack(weight.view, bias.view, packed.view);
          int const padded = int(packed.view.numel() / (k * k + 1)), kk = int(k), s = int(stride), p = kk / 2;
          auto const run = [&](int64_t band) {
            Array y = random_array({1, oh, ow, yp}, -9, -8, 4);
            DepthwiseArgs const a{x.data(),
                                  packed.data(),
                                  packed.data() + padded * k * k,
                                  y.data(),
                                  h,
                                  w,
                                  oh,
                                  ow,
                                  xp,
                                  yp,
                                  int(c),
                                  padded,
                                  kk,
                                  kk,
                                  s,
                                  s,
                                  p,
                                  p,
                                  1,
                                  1,
                                  Activation::silu};
            for (int64_t row = 0; row < oh; row += band) depthwise_band(a, row, std::min(row + band, oh));
            return y;
          };
          Array whole = run(oh), untouched = random_array({1, oh, ow, yp}, -9, -8, 4);
          for (int64_t i = 0; i < whole.view.numel(); ++i)
            CHECK((i % yp < c) == (whole.data()[i] != untouched.data()[i]));
          for (int64_t band : {1, 2, 3})
            CHECK(std::memcmp(run(band).data(), whole.data(), size_t(whole.view.numel()) * 4) == 0);
          Array dense(DType::f32, {1, h, w, c}), y(DType::f32, {1, oh, ow, c});
          for (int64_t i = 0; i < h * w * c; ++i) dense.data()[i] = x.data()[i / c * xp + i % c];
          Array workspace(DType::u8, {depthwise_conv2d_workspace(dense.view, weight.view, y.view)});
          depthwise_conv2d(dense.view, weight.view, bias.view, y.view, workspace.view,
                           {{stride, stride}, {k / 2, k / 2}, {1, 1}, Activation::silu}, test_context());
          for (int64_t i = 0; i < y.view.numel(); ++i) CHECK(y.data()[i] == whole.data()[i / c * yp + i % c]);
        }
}

// The first channels in a map of half the size, read as if it had been upsampled: the same bits.
TEST(depthwise_reads_an_upsampled_map_by_index) {
  for (int64_t k : {3, 5})
    for (int64_t low : {5, 16, 40})
      for (int64_t other : {3, 32})
        for (int64_t h : {2, 6})
          for (int64_t w : {2, 4, 6, 12, 14, 22, 34}) {
            int64_t const c = low + other, p = k / 2, pitch = low + 2;
            Array x = random_array({1, h, w, c}, -1, 1, 1), half = random_array({1, h / 2, w / 2, pitch}, -1, 1, 2),
                  rest(DType::f32, {1, h, w, other}), weight = random_array({c, 1, k, k}, -1, 1, 3),
                  bias = random_array({c}, -1, 1, 4), y(DType::f32, {1, h, w, c}), expected(DType::f32, {1, h, w, c});
            for (int64_t i = 0; i < half.view.numel(); ++i)
              if (i % pitch >= low) half.data()[i] = NAN;  // a neighbour's
            for (int64_t i = 0; i < h; ++i)
              for (int64_t j = 0; j < w; ++j)
                for (int64_t e = 0; e < c; ++e) {
                  float& value = x.data()[(i * w + j) * c + e];
                  if (e < low)
                    value = half.data()[(i / 2 * (w / 2) + j / 2) * pitch + e];
                  else
                    rest.data()[(i * w + j) * other + e - low] = value;
                }
            Array workspace(DType::u8, {depthwise_conv2d_workspace(x.view, weight.view, y.view)});
            depthwise_conv2d(x.view, weight.view, bias.view, expected.view, workspace.view,
                             {{1, 1}, {p, p}, {1, 1}, Activation::silu}, test_context());

            int64_t const first = depthwise_packed_size(low, k, k), second = depthwise_packed_size(other, k, k);
            Array packed_low(DType::f32, {first}), packed(DType::f32, {second});
            View part = weight.view, part_bias = bias.view;
            part.shape[0] = part_bias.shape[0] = low;
            depthwise_pack(part, part_bias, packed_low.view);
            part.data = weight.data() + low * k * k, part_bias.data = bias.data() + low;
            part.shape[0] = part_bias.shape[0] = other;
            depthwise_pack(part, part_bias, packed.view);
            int const kk = int(k), pp = int(p);
            DepthwiseArgs a{rest.data(),
                            packed.data(),
                            packed.data() + depthwise_padded(other) * k * k,
                            y.data(),
                            h,
                            w,
                            h,
                            w,
                            other,
                            c,
                            int(other),
                            int(depthwise_padded(other)),
                            kk,
                            kk,
                            1,
                            1,
                            pp,
                            pp,
                            1,
                            1,
                            Activation::silu};
            a.low = {half.data(), packed_low.data(), packed_low.data() + depthwise_padded(low) * k * k, pitch,
                     int(low)};
            for (int64_t row = 0; row < h; row += 3) depthwise_band(a, row, std::min(row + 3, h));
            CHECK(std::memcmp(y.data(), expected.data(), size_t(y.view.numel()) * 4) == 0);
          }
}

TEST(depthwise_any_window) {
  compare({9, 8, 5, 2, 4, {{1, 2}, {0, 3}, {2, 1}, Activation::hardswish}});
  compare({6, 6, 18, 3, 1, {{3, 1}, {4, 0}, {3, 1}, Activation::relu6}});
}

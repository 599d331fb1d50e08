#include <array>

#include "check.h"
#include "on_cuda.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "tensor.h"

using namespace leyolo;

namespace {

// Both twins, forward and backward.
void compare(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, Depthwise const& p) {
  int64_t const oh = conv_output_size(h, k, p.stride[0], p.padding[0], p.dilation[0]);
  int64_t const ow = conv_output_size(w, k, p.stride[1], p.padding[1], p.dilation[1]);
  Array x = random_array({n, h, w, c}, -1, 1, 1), weight = random_array({c, 1, k, k}, -1, 1, 2),
        bias = random_array({c}, -1, 1, 3), g = random_array({n, oh, ow, c}, -1, 1, 4);
  Array result[2][4] = {
      {{DType::f32, {n, oh, ow, c}}, {DType::f32, {n, h, w, c}}, {DType::f32, {c, 1, k, k}}, {DType::f32, {c}}},
      {{DType::f32, {n, oh, ow, c}}, {DType::f32, {n, h, w, c}}, {DType::f32, {c, 1, k, k}}, {DType::f32, {c}}}};
  for (int twin : {0, 1}) {
    auto const at = [&](Array const& a) { return twin ? on_cuda(a) : a.view; };
    Array* r = result[twin];
    Array scratch(DType::u8, {depthwise_conv2d_workspace(at(x), at(weight), at(r[0]))});
    depthwise_conv2d(at(x), at(weight), at(bias), at(r[0]), at(scratch), p, test_context());
    Array more(DType::u8, {depthwise_conv2d_backward_workspace(at(x), at(weight), at(g), p)});
    depthwise_conv2d_backward(at(g), at(x), at(weight), at(bias), at(r[1]), at(r[2]), at(r[3]), at(more), p,
                              test_context());
  }
  for (int i = 0; i < 4; ++i) CHECK_NEAR(difference(result[0][i], result[1][i]), 0, 2e-6);
}

}  // namespace

// Every unrolled kernel, with maps below, at and above its tiles and lanes that have no channel.
TEST(depthwise_marching_is_the_same_on_both_devices) {
  for (int64_t k : {3, 5, 7})
    for (int64_t stride : {1, 2})
      for (auto [h, w, c] : {std::array<int64_t, 3>{1, 1, 2}, {6, 9, 6}, {11, 4, 24}, {5, 13, 34}})
        compare(2, h, w, c, k, {{stride, stride}, {k / 2, k / 2}, {1, 1}, Activation::silu});
}

TEST(depthwise_any_window_is_the_same_on_both_devices) {
  compare(1, 9, 8, 5, 2, {{1, 2}, {0, 3}, {2, 1}, Activation::hardswish});
  compare(2, 6, 6, 18, 3, {{3, 1}, {4, 0}, {3, 1}, Activation::relu6});
  compare(1, 7, 7, 8, 3, {{1, 1}, {0, 0}, {1, 1}, Activation::none});
  compare(1, 7, 7, 8, 5, {{2, 2}, {4, 4}, {1, 1}, Activation::relu});
}

#include <array>

#include "check.h"
#include "on_cuda.h"
#include "ops/batch_norm_act/batch_norm_act.h"
#include "tensor.h"

using namespace leyolo;

namespace {

void compare(int64_t rows, int64_t c, BatchNormAct const& params) {
  Array x = random_array({rows, c}, 1, 4, 1), weight = random_array({c}, 0.5, 1, 2), bias = random_array({c}, -1, 1, 3),
        g = random_array({rows, c}, -1, 1, 4);
  Array results[2][6] = {{random_array({c}, 1, 3, 5),
                          random_array({c}, 1, 2, 6),
                          {DType::f32, {rows, c}},
                          {DType::f32, {rows, c}},
                          {DType::f32, {c}},
                          {DType::f32, {c}}},
                         {random_array({c}, 1, 3, 5),
                          random_array({c}, 1, 2, 6),
                          {DType::f32, {rows, c}},
                          {DType::f32, {rows, c}},
                          {DType::f32, {c}},
                          {DType::f32, {c}}}};
  for (int twin : {0, 1}) {
    auto const at = [&](Array const& a) { return twin ? on_cuda(a) : a.view; };
    auto& [mean, variance, y, gx, gw, gb] = results[twin];
    Array scratch(DType::u8, {batch_norm_act_workspace(at(x))}),
        more(DType::u8, {batch_norm_act_backward_workspace(at(x))});
    batch_norm_act(at(x), at(weight), at(bias), at(mean), at(variance), at(y), at(scratch), params, test_context());
    batch_norm_act_backward(at(g), at(x), at(weight), at(bias), at(mean), at(variance), at(gx), at(gw), at(gb),
                            at(more), params, test_context());
  }
  for (int i = 0; i < 6; ++i) CHECK_NEAR(difference(results[0][i], results[1][i]), 0, 5e-6);
}

}  // namespace

// Channels in pairs and alone, lanes without one; rows below, at and above a step of a block.
TEST(batch_norm_act_is_the_same_on_both_devices) {
  for (bool training : {true, false})
    for (auto [rows, c] : {std::array<int64_t, 2>{2, 1}, {33, 5}, {65, 24}, {300, 16}, {7, 70}, {513, 8}})
      compare(rows, c, {1e-3, Activation::silu, training});
  compare(20, 6, {1e-3, Activation::hardswish, true});
}

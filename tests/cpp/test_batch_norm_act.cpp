// The two memory formats of the CPU give the same; every buffer is exactly as large as what is read and written.
#include <array>

#include "check.h"
#include "core/transpose.h"
#include "ops/batch_norm_act/batch_norm_act.h"
#include "tensor.h"

using namespace leyolo;

namespace {

struct Results {
  Array y, gx, mean, variance, gw, gb;
};

Results run(Array& x, Array& gradient, int64_t channels, BatchNormAct const& params) {
  View const shape = x.view;
  auto const map = [&] { return Array(DType::f32, {shape.shape[0], shape.shape[1], shape.shape[2]}); };
  Results r{map(),
            map(),
            random_array({channels}, 1, 3, 5),
            random_array({channels}, 1, 2, 6),
            {DType::f32, {channels}},
            {DType::f32, {channels}}};
  Array weight = random_array({channels}, 0.5, 1, 2), bias = random_array({channels}, -1, 1, 3);
  Array forward(DType::u8, {batch_norm_act_workspace(x.view, params.channels_first)}),
      backward(DType::u8, {batch_norm_act_backward_workspace(x.view, params.channels_first)});
  Context const context = test_context();
  batch_norm_act(x.view, weight.view, bias.view, r.mean.view, r.variance.view, r.y.view, forward.view, params, context);
  batch_norm_act_backward(gradient.view, x.view, weight.view, bias.view, r.mean.view, r.variance.view, r.gx.view,
                          r.gw.view, r.gb.view, backward.view, params, context);
  return r;
}

void compare(int64_t images, int64_t channels, int64_t area, BatchNormAct params) {
  auto const planes = [&](Array& last) {
    Array first(DType::f32, {images, channels, area});
    transpose_matrices(last.data(), images, area, channels, first.data(), test_context());
    return first;
  };
  Array x = random_array({images, area, channels}, 1, 4, 1), g = random_array({images, area, channels}, -1, 1, 4);
  Array x_planes = planes(x), g_planes = planes(g);
  Results last = run(x, g, channels, params);
  params.channels_first = true;
  Results first = run(x_planes, g_planes, channels, params);
  Array y = planes(last.y), gx = planes(last.gx);
  CHECK_NEAR(difference(y, first.y), 0, 5e-6);
  CHECK_NEAR(difference(gx, first.gx), 0, 5e-6);
  CHECK_NEAR(difference(last.mean, first.mean), 0, 1e-6);
  CHECK_NEAR(difference(last.variance, first.variance), 0, 1e-6);
  CHECK_NEAR(difference(last.gw, first.gw), 0, 5e-6);
  CHECK_NEAR(difference(last.gb, first.gb), 0, 5e-6);
}

}  // namespace

// Planes below, at and above a vector, a step and a stretch.
TEST(batch_norm_act_is_the_same_in_both_memory_formats) {
  for (bool training : {true, false})
    for (auto [images, channels, area] : {std::array<int64_t, 3>{2, 3, 1},
                                          {1, 1, 2},
                                          {3, 5, 17},
                                          {2, 17, 64},
                                          {1, 4, 100},
                                          {2, 2, 8192},
                                          {1, 3, 8193},
                                          {1, 2, 16500}})
      compare(images, channels, area, {1e-3, Activation::silu, training});
  compare(2, 6, 35, {1e-3, Activation::hardswish, true});
}

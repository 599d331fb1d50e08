#include "check.h"
#include "half_array.h"
#include "on_cuda.h"
#include "ops/conv2d/conv2d.h"

using namespace leyolo;

namespace {

// Against the CPU twin, from the same rounded inputs: sums in another order, then one rounding to the type.
void compare(DType type, int64_t n, int64_t h, int64_t w, int64_t in, int64_t out, int64_t k, int64_t stride,
             bool with_residual, Activation activation = Activation::silu) {
  int64_t const p = k / 2, oh = conv_output_size(h, k, stride, p), ow = conv_output_size(w, k, stride, p);
  Array x32 = random_array({n, h, w, in}, -1, 1, 1), w32 = random_array({out, in, k, k}, -1, 1, 2),
        b32 = random_array({out}, -1, 1, 3), r32 = random_array({n, oh, ow, out}, -1, 1, 4);
  Array x = in_type(x32, type), weight = in_type(w32, type), bias = in_type(b32, type), residual = in_type(r32, type);
  Array cpu(type, {n, oh, ow, out}), cuda(type, {n, oh, ow, out});
  Array for_cpu(DType::f32, {conv2d_packed_size(weight.view)});
  Array for_cuda(DType::f32, {conv2d_packed_size(on_cuda(weight))});
  Array workspace(DType::f32, {conv2d_workspace(x.view, cpu.view, residual.view)});
  conv2d_pack(weight.view, bias.view, for_cpu.view);
  conv2d_pack(on_cuda(weight), on_cuda(bias), on_cuda(for_cuda));
  Conv2d const params{stride, p, activation};
  View const r = with_residual ? residual.view : View(), cuda_r = with_residual ? on_cuda(residual) : View();
  conv2d(x.view, for_cpu.view, r, cpu.view, workspace.view, k, params, test_context());
  conv2d(on_cuda(x), on_cuda(for_cuda), cuda_r, on_cuda(cuda), View(), k, params, test_context());
  double const bound = 2e-5 * std::sqrt(1 + double(in * k * k) / 50);
  for (int64_t i = 0; i < cpu.view.numel(); ++i) {
    double const expected = value_at(cpu, i);
    CHECK_NEAR(value_at(cuda, i), expected, bound + (type == DType::f32 ? 0 : epsilon_of(type) * std::abs(expected)));
  }
}

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

}  // namespace

TEST(conv2d_cuda_pointwise) {
  for (DType type : kTypes) {
    for (int64_t out : {1, 7, 8, 16, 40, 64, 96, 136})
      for (int64_t pixels : {1, 3, 65}) compare(type, 1, 1, pixels, 16, out, 1, 1, true);
    for (int64_t in : {1, 3, 8, 24, 32, 40, 72}) compare(type, 2, 3, 5, in, 24, 1, 1, false, Activation::none);
  }
}

TEST(conv2d_cuda_tall_tiles) {
  compare(DType::f16, 3, 112, 101, 8, 16, 1, 1, true);
  compare(DType::bf16, 1, 23, 60, 8, 16, 3, 1, false, Activation::relu6);
}

TEST(conv2d_cuda_windows) {
  for (DType type : kTypes) {
    compare(type, 2, 9, 11, 3, 16, 3, 2, false);
    compare(type, 1, 1, 1, 8, 8, 3, 1, true);
    compare(type, 2, 7, 8, 16, 72, 5, 1, true, Activation::hardswish);
    compare(type, 1, 8, 9, 24, 40, 3, 2, false, Activation::relu);
    compare(type, 1, 2, 3, 5, 9, 5, 1, false);
    compare(type, 1, 6, 6, 16, 8, 1, 2, false);
  }
}

#include <cstring>

#include "check.h"
#include "half_array.h"
#include "on_cuda.h"
#include "ops/conv2d/conv2d.h"
#include "ops/conv2d/conv2d_cuda.h"

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

float rounded_to_tf32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = (bits + 0x1000u) & ~0x1fffu;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Against the CPU twin on inputs that are rounded to TF32: their products are exact in float32. `gap`: of pixels.
template <class X = float>
void compare_tf32(int64_t n, int64_t h, int64_t w, int64_t in, int64_t out, int64_t k, int64_t stride,
                  bool with_residual, int64_t gap = 0) {
  int64_t const p = k / 2, oh = conv_output_size(h, k, stride, p), ow = conv_output_size(w, k, stride, p);
  bool const bytes = sizeof(X) == 1;
  Array x(bytes ? DType::u8 : DType::f32, {n, h, w, in + gap}), exact(DType::f32, {n, h, w, in});
  Array draw = random_array({n, h, w, in + gap}, bytes ? 0 : -1, bytes ? 255 : 1, 1),
        weight = random_array({out, in, k, k}, -1, 1, 2), bias = random_array({out}, -1, 1, 3),
        residual = random_array({n, oh, ow, out}, -1, 1, 4);
  for (int64_t i = 0; i < draw.view.numel(); ++i) {
    x.data<X>()[i] = X(draw.data()[i]);
    int64_t const pixel = i / (in + gap), channel = i % (in + gap);
    float const value = float(x.data<X>()[i]);
    if (channel < in) exact.data()[pixel * in + channel] = rounded_to_tf32(bytes ? value * (1.0f / 255.0f) : value);
  }
  for (int64_t i = 0; i < weight.view.numel(); ++i) weight.data()[i] = rounded_to_tf32(weight.data()[i]);
  Array cpu(DType::f32, {n, oh, ow, out}), cuda(DType::f32, {n, oh, ow, out});
  Array for_cpu(DType::f32, {conv2d_packed_size(weight.view)}),
      for_cuda(DType::f32, {conv2d_packed_size(on_cuda(weight))});
  Array workspace(DType::f32, {conv2d_workspace(exact.view, cpu.view, residual.view)});
  conv2d_pack(weight.view, bias.view, for_cpu.view);
  conv2d_pack(on_cuda(weight), on_cuda(bias), on_cuda(for_cuda));
  conv2d(exact.view, for_cpu.view, with_residual ? residual.view : View(), cpu.view, workspace.view, k,
         {stride, p, Activation::silu}, test_context());
  conv2d_images_cuda({x.view.data,
                      for_cuda.data(),
                      with_residual ? residual.data() : nullptr,
                      cuda.data(),
                      x.view.dtype,
                      DType::f32,
                      n,
                      h * w * (in + gap),
                      oh * ow * out,
                      oh * ow * out,
                      int(h),
                      int(w),
                      int(oh),
                      int(ow),
                      int(in + gap),
                      int(out),
                      int(out),
                      int(in),
                      int(out),
                      int(k),
                      int(stride),
                      int(p),
                      Activation::silu,
                      true},
                     DType::f32, test_context());
  double const bound = 2e-5 * std::sqrt(1 + double(in * k * k) / 50);
  for (int64_t i = 0; i < cpu.view.numel(); ++i) CHECK_NEAR(cuda.data()[i], cpu.data()[i], bound);
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

TEST(conv2d_cuda_tf32) {
  for (int64_t out : {1, 7, 8, 40, 64, 96, 136})
    if (!kFewCases || out >= 96)
      for (int64_t pixels : {1, 65}) compare_tf32(1, 1, pixels, 16, out, 1, 1, true);
  for (int64_t in : {1, 3, 4, 12, 20, 40}) compare_tf32(2, 3, 5, in, 24, 1, 1, false);
  compare_tf32(1, 1, 33, 8, 16, 1, 1, false, 4);
  for (int64_t out : {16, 64, 96}) {  // tall tiles
    if (kFewCases && out > 16) break;
    compare_tf32(3, 112, 101, 4, out, 1, 1, true);
    compare_tf32(1, 183, 184, 4, out, 2, 1, false);
  }
  compare_tf32(2, 9, 11, 3, 16, 3, 2, false);
  compare_tf32<uint8_t>(2, 9, 11, 3, 16, 3, 2, false);
  compare_tf32(2, 7, 8, 16, 72, 5, 1, true);
  compare_tf32(1, 2, 3, 5, 9, 5, 1, false);
}

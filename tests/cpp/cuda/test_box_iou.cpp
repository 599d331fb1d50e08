#include "check.h"
#include "core/half.h"
#include "on_cuda.h"
#include "ops/box_iou/box_iou.h"
#include "tensor.h"

using namespace leyolo;

namespace {

constexpr BoxIou kKinds[] = {BoxIou::iou, BoxIou::generalized, BoxIou::distance, BoxIou::complete};

// On a coarse grid, so that corners coincide and boxes touch.
Array boxes(DType dtype, int64_t batch, int64_t n, unsigned seed) {
  Array from = random_array({batch, n, 4}, 1, 20, seed), to(dtype, {batch, n, 4});
  for (int64_t i = 0; i < from.view.numel(); ++i) {
    float const v = std::floor(from.data()[i]) + (i % 4 >= 2 ? std::floor(from.data()[i - 2]) : 0.0f);
    switch (dtype) {
      case DType::f64: to.data<double>()[i] = v; break;
      case DType::f16: to.data<float16>()[i] = float16(v); break;
      case DType::bf16: to.data<bfloat16>()[i] = bfloat16(v); break;
      default: to.data()[i] = v;
    }
  }
  return to;
}

void compare(DType dtype, int64_t n, int64_t m, IouParams const& params) {
  DType const result = dtype == DType::f64 ? DType::f64 : DType::f32;
  Array a = boxes(dtype, 2, n, 1), b = boxes(dtype, 2, m, 2), cpu(result, {2, n, m}), cuda(result, {2, n, m});
  box_iou(a.view, b.view, cpu.view, params, test_context());
  box_iou(on_cuda(a), on_cuda(b), on_cuda(cuda), params, test_context());
  CHECK(same_bits(cpu, cuda));
}

// Sums in another order: each gradient is near the CPU's, whose float64 sums are exact enough to ask for.
void compare_gradients(int64_t n, int64_t m, IouParams const& params, bool want1, bool want2) {
  Array a = boxes(DType::f32, 2, n, 1), b = boxes(DType::f32, 2, m, 2), g = random_array({2, n, m}, -1, 1, 3);
  Array a64 = boxes(DType::f64, 2, n, 1), b64 = boxes(DType::f64, 2, m, 2), g64(DType::f64, {2, n, m});
  std::copy_n(g.data(), g.view.numel(), g64.data<double>());
  Array ga(DType::f32, {2, n, 4}), gb(DType::f32, {2, m, 4}), ea(DType::f64, {2, n, 4}), eb(DType::f64, {2, m, 4});
  Array da(DType::f64, {2, n, 4}), db(DType::f64, {2, m, 4});
  auto const cuda = [&](Array& of, bool want) { return want ? on_cuda(of) : View(); };
  box_iou_backward(g64.view, a64.view, b64.view, ea.view, eb.view, params, test_context());
  box_iou_backward(on_cuda(g), on_cuda(a), on_cuda(b), cuda(ga, want1), cuda(gb, want2), params, test_context());
  box_iou_backward(on_cuda(g64), on_cuda(a64), on_cuda(b64), cuda(da, want1), cuda(db, want2), params, test_context());
  auto const check = [](Array& floats, Array& doubles, Array& expected, bool want, int64_t terms) {
    for (int64_t i = 0; i < expected.view.numel(); ++i) {
      double const e = want ? expected.data<double>()[i] : 0.0;
      CHECK_NEAR(double(floats.data()[i]), e, 2e-6 * double(terms + 1));
      CHECK_NEAR(doubles.data<double>()[i], e, 1e-14 * double(terms + 1));
    }
  };
  check(ga, da, ea, want1, m);
  check(gb, db, eb, want2, n);
}

}  // namespace

TEST(box_iou_is_the_same_on_both_devices) {
  for (int64_t n : {0, 1, 3, 33, 65})
    for (int64_t m : {0, 1, 4, 17, 260})
      for (BoxIou kind : kKinds) compare(DType::f32, n, m, {kind, BoxFormat::xyxy, 1e-7});
  for (BoxIou kind : kKinds)
    for (BoxFormat format : {BoxFormat::xywh, BoxFormat::cxcywh}) compare(DType::f32, 5, 9, {kind, format, 1e-7});
  for (DType dtype : {DType::f16, DType::bf16, DType::f64})
    for (BoxIou kind : kKinds) compare(dtype, 5, 8, {kind, BoxFormat::cxcywh, 1e-7});
  compare(DType::f32, 300, 2, {});  // as many rows as threads, and some
}

TEST(box_iou_of_unaligned_boxes) {
  Array memory = random_array({41}, 1, 50), cpu(DType::f32, {1, 10, 10}), cuda(DType::f32, {1, 10, 10});
  View some;
  some.data = memory.data() + 1, some.rank = 3, some.shape[0] = 1, some.shape[1] = 10, some.shape[2] = 4;
  box_iou(some, some, cpu.view, {}, test_context());
  some.device = Device::cuda;
  box_iou(some, some, on_cuda(cuda), {}, test_context());
  CHECK(same_bits(cpu, cuda));
}

TEST(box_iou_gradients_are_near_on_both_devices) {
  for (BoxIou kind : kKinds) {
    if (kFewCases && kind != BoxIou::complete) continue;
    for (int64_t n : {0, 1, 9, 130})
      for (int64_t m : {0, 1, 33}) compare_gradients(n, m, {kind, BoxFormat::xyxy, 1e-7}, true, true);
    for (BoxFormat format : {BoxFormat::xywh, BoxFormat::cxcywh})
      compare_gradients(5, 130, {kind, format, 1e-7}, true, true);
  }
  compare_gradients(7, 8, {}, true, false);
  compare_gradients(7, 8, {}, false, true);
  compare_gradients(7, 8, {}, false, false);
}

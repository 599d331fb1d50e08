#include "check.h"
#include "core/half.h"
#include "on_cuda.h"
#include "ops/box_iou_loss/box_iou_loss.h"
#include "tensor.h"

using namespace leyolo;

namespace {

// Three floats and a half, so that corners coincide now and then.
Array boxes(DType dtype, int64_t n, unsigned seed) {
  Array from = random_array({n, 4}, 1, 9, seed), to(dtype, {n, 4});
  for (int64_t i = 0; i < from.view.numel(); ++i) {
    float const v = std::round(2 * from.data()[i]) / 2 + (i % 4 >= 2 ? 5.0f : 0.0f);
    switch (dtype) {
      case DType::f64: to.data<double>()[i] = v; break;
      case DType::f16: to.data<float16>()[i] = float16(v); break;
      case DType::bf16: to.data<bfloat16>()[i] = bfloat16(v); break;
      default: to.data()[i] = v;
    }
  }
  return to;
}

// The bits of a NaN may differ.
template <class T>
bool same_halves(Array& a, Array& b) {
  for (int64_t i = 0; i < a.view.numel(); ++i) {
    float const x = a.data<T>()[i], y = b.data<T>()[i];
    if (!(x == y || (std::isnan(x) && std::isnan(y)))) return false;
  }
  return true;
}
bool same_gradients(Array& a, Array& b) {
  if (a.view.dtype == DType::f16) return same_halves<float16>(a, b);
  if (a.view.dtype == DType::bf16) return same_halves<bfloat16>(a, b);
  return same_bits(a, b);
}

}  // namespace

TEST(box_iou_loss_is_the_same_on_both_devices) {
  for (DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (BoxIou kind : {BoxIou::generalized, BoxIou::distance, BoxIou::complete})
      for (int64_t n : {0, 1, 3, 129}) {
        DType const result = dtype == DType::f64 ? DType::f64 : DType::f32;
        Array a = boxes(dtype, n, 1), b = boxes(dtype, n, 2), cpu(result, {n}), cuda(result, {n}), g(result, {n});
        box_iou_loss(a.view, b.view, cpu.view, kind, 1e-7, test_context());
        box_iou_loss(on_cuda(a), on_cuda(b), on_cuda(cuda), kind, 1e-7, test_context());
        CHECK(same_bits(cpu, cuda));
        for (int64_t i = 0; i < n; ++i)
          result == DType::f64 ? void(g.data<double>()[i] = double(i) - 1) : void(g.data()[i] = float(i) - 1);
        for (bool want1 : {false, true})
          for (bool want2 : {false, true}) {
            Array ca(dtype, {n, 4}), cb(dtype, {n, 4}), ga(dtype, {n, 4}), gb(dtype, {n, 4});
            box_iou_loss_backward(g.view, a.view, b.view, want1 ? ca.view : View(), want2 ? cb.view : View(), kind,
                                  1e-7, test_context());
            box_iou_loss_backward(on_cuda(g), on_cuda(a), on_cuda(b), want1 ? on_cuda(ga) : View(),
                                  want2 ? on_cuda(gb) : View(), kind, 1e-7, test_context());
            CHECK(same_gradients(ca, ga) && same_gradients(cb, gb));
          }
      }
}

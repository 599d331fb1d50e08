// Aligned pairs: one thread a pair, each box moved as a whole, both passes one kernel each.
#include "ops/box_iou/box_iou.cuh"
#include "ops/box_iou_loss/box_iou_loss.h"

namespace leyolo {

namespace {

constexpr int kBlock = 128;  // few boxes: rather more blocks

template <class T>
struct Pairs {
  T const *boxes1, *boxes2;
  int64_t n;
  bool aligned;  // all boxes
};

template <BoxIou kind, class A, class T>
__global__ void __launch_bounds__(kBlock) box_iou_loss_kernel(Pairs<T> pairs, A* out, A eps) {
  int64_t const i = blockIdx.x * int64_t(kBlock) + threadIdx.x;
  if (i >= pairs.n) return;
  FourNumbers<T> const a = load_four(pairs.boxes1 + 4 * i, pairs.aligned),
                       b = load_four(pairs.boxes2 + 4 * i, pairs.aligned);
  IouPair<kind, true, A, A> pair;
  out[i] =
      A(1) - pair.score(iou_box<A>(a.value, BoxFormat::xyxy, kind), iou_box<A>(b.value, BoxFormat::xyxy, kind), eps);
}

template <BoxIou kind, class A, class T>
__device__ __forceinline__ void gradient(FourNumbers<T> const& raw, IouBox<A> const& self, IouBox<A> const& other,
                                         A eps, A g, T* to, bool aligned) {
  IouPair<kind, true, A, A> pair;
  pair.score(self, other, eps);
  FourNumbers<T> result;
  iou_box_gradient(raw.value, BoxFormat::xyxy, kind, pair.gradient(self, other, eps, g), result.value);
  store_four(to, aligned, result);
}

template <BoxIou kind, class A, class T>
__global__ void __launch_bounds__(kBlock)
    box_iou_loss_backward_kernel(Pairs<T> pairs, A const* g, T* gradient1, T* gradient2, A eps) {
  int64_t const i = blockIdx.x * int64_t(kBlock) + threadIdx.x;
  if (i >= pairs.n) return;
  FourNumbers<T> const a = load_four(pairs.boxes1 + 4 * i, pairs.aligned),
                       b = load_four(pairs.boxes2 + 4 * i, pairs.aligned);
  IouBox<A> const first = iou_box<A>(a.value, BoxFormat::xyxy, kind),
                  second = iou_box<A>(b.value, BoxFormat::xyxy, kind);
  A const of_loss = -g[i];
  if (gradient1) gradient<kind>(a, first, second, eps, of_loss, gradient1 + 4 * i, pairs.aligned);
  if (gradient2) gradient<kind>(b, second, first, eps, of_loss, gradient2 + 4 * i, pairs.aligned);
}

template <class F>
void for_loss_kind(BoxIou kind, F&& f) {
  switch (kind) {
    case BoxIou::generalized: return f(std::integral_constant<BoxIou, BoxIou::generalized>());
    case BoxIou::distance: return f(std::integral_constant<BoxIou, BoxIou::distance>());
    default: return f(std::integral_constant<BoxIou, BoxIou::complete>());
  }
}

}  // namespace

void box_iou_loss_cuda(View boxes1, View boxes2, View out, View gradient, View gradient1, View gradient2, BoxIou kind,
                       double eps, Context const& context) {
  int64_t const n = boxes1.shape[0];
  if (n == 0) return;
  for_float_cuda(boxes1.dtype, "box_iou_loss", [&](auto zero) {
    using T = decltype(zero);
    using A = iou_float<T>;
    auto const fits = [](View v) { return !v || is_aligned(v.as<T>()); };
    Pairs<T> const pairs{boxes1.as<T>(), boxes2.as<T>(), n,
                         fits(boxes1) && fits(boxes2) && fits(gradient1) && fits(gradient2)};
    for_loss_kind(kind, [&](auto which) {
      constexpr BoxIou k = decltype(which)::value;
      if (out)
        LEYOLO_LAUNCH((box_iou_loss_kernel<k, A, T>), blocks(n, kBlock), kBlock, 0, context.stream, pairs, out.as<A>(),
                      A(eps));
      if (gradient1 || gradient2)
        LEYOLO_LAUNCH((box_iou_loss_backward_kernel<k, A, T>), blocks(n, kBlock), kBlock, 0, context.stream, pairs,
                      gradient.as<A>(), gradient1.as<T>(), gradient2.as<T>(), A(eps));
    });
  });
}

}  // namespace leyolo

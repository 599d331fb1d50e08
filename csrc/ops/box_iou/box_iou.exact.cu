#include "core/cuda.cuh"
#include "ops/box_iou/box_iou.h"

namespace leyolo {

namespace {

template <BoxIou kind, class A, class T>
__global__ void box_iou_kernel(T const* a, T const* b, A* out, int64_t n, int64_t m, int64_t pairs, BoxFormat format,
                               A eps) {
  int64_t const k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (k >= pairs) return;
  int64_t const row = k / m, j = k % m;
  IouPair<kind, false, A, A> pair;
  out[k] =
      pair.score(iou_box<A>(a + 4 * row, format, kind), iou_box<A>(b + 4 * (m * (row / n) + j), format, kind), eps);
}

template <BoxIou kind, class A, class T>
void run(View boxes1, View boxes2, View out, IouParams const& params, Context const& context) {
  LEYOLO_LAUNCH((box_iou_kernel<kind, A, T>), blocks(out.numel()), kThreads, 0, context.stream, boxes1.as<T>(),
                boxes2.as<T>(), out.as<A>(), boxes1.shape[1], boxes2.shape[1], out.numel(), params.format,
                A(params.eps));
}

}  // namespace

void box_iou_cuda(View boxes1, View boxes2, View out, IouParams const& params, Context const& context) {
  if (out.numel() == 0) return;
  for_float_cuda(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    using A = std::conditional_t<std::is_same_v<T, double>, double, float>;
    switch (params.kind) {
      case BoxIou::iou: return run<BoxIou::iou, A, T>(boxes1, boxes2, out, params, context);
      case BoxIou::generalized: return run<BoxIou::generalized, A, T>(boxes1, boxes2, out, params, context);
      case BoxIou::distance: return run<BoxIou::distance, A, T>(boxes1, boxes2, out, params, context);
      case BoxIou::complete: return run<BoxIou::complete, A, T>(boxes1, boxes2, out, params, context);
    }
  });
}

}  // namespace leyolo

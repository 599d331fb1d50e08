#include "core/box.h"
#include "core/cuda.cuh"
#include "ops/box_iou/box_iou.h"

namespace leyolo {

namespace {

template <class A, class T>
__global__ void box_iou_kernel(T const* a, T const* b, A* out, int64_t n, int64_t m, int64_t pairs) {
  int64_t const k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (k >= pairs) return;
  int64_t const row = k / m, j = k % m;
  out[k] = iou(load_box<A>(a + 4 * row), load_box<A>(b + 4 * (m * (row / n) + j)));
}

}  // namespace

void box_iou_cuda(View boxes1, View boxes2, View out, Context const& context) {
  for_float_cuda(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    using A = std::conditional_t<std::is_same_v<T, double>, double, float>;
    LEYOLO_LAUNCH((box_iou_kernel<A, T>), blocks(out.numel()), kThreads, 0, context.stream, boxes1.as<T>(),
                  boxes2.as<T>(), out.as<A>(), boxes1.shape[1], boxes2.shape[1], out.numel());
  });
}

}  // namespace leyolo

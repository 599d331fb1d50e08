#include "ops/box_iou/box_iou.h"

#include "core/box.h"
#include "core/cpu.h"
#include "core/dispatch.h"

namespace leyolo {

void box_iou(View boxes1, View boxes2, View out, Context const& context) {
  check(boxes1.rank == 3 && boxes1.shape[2] == 4, "box_iou: boxes1 must be [..., N, 4], got ", boxes1);
  check(boxes2.rank == 3 && boxes2.shape[2] == 4, "box_iou: boxes2 must be [..., M, 4], got ", boxes2);
  check(boxes1.shape[0] == boxes2.shape[0], "box_iou: boxes1 and boxes2 must have the same leading sizes, got ", boxes1,
        " and ", boxes2);
  check(boxes1.dtype == boxes2.dtype && boxes1.device == boxes2.device,
        "box_iou: boxes1 and boxes2 must share dtype and device, got ", boxes1, " and ", boxes2);
  if (out.numel() == 0) return;
  LEYOLO_DISPATCH("box_iou", out.device, box_iou_cpu(boxes1, boxes2, out, context),
                  box_iou_cuda(boxes1, boxes2, out, context));
}

void box_iou_cpu(View boxes1, View boxes2, View out, Context const& context) {
  int64_t const n = boxes1.shape[1], m = boxes2.shape[1];
  for_float(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    using A = accumulator_t<T>;
    T const *a = boxes1.as<T>(), *b = boxes2.as<T>();
    A* o = out.as<A>();
    parallel_for(context, 0, boxes1.shape[0] * n, 1 + 16384 / m, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        auto const box = load_box<A>(a + 4 * row);
        T const* others = b + 4 * m * (row / n);
        for (int64_t j = 0; j < m; ++j) o[row * m + j] = iou(box, load_box<A>(others + 4 * j));
      }
    });
  });
}

}  // namespace leyolo

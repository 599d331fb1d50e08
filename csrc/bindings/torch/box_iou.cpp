#include "ops/box_iou/box_iou.h"

#include "bindings/torch/common.h"

namespace leyolo {

Tensor torch_box_iou(Tensor const& boxes1, Tensor const& boxes2) {
  View const a = view(boxes1, "box_iou: boxes1"), b = view(boxes2, "box_iou: boxes2");
  check(a.rank == 3 && b.rank == 3, "box_iou: boxes must be [B, N, 4] and [B, M, 4], got ", a, " and ", b);
  Tensor const out = empty(boxes1, {a.shape[0], a.shape[1], b.shape[1]}, accumulator_of(boxes1));
  box_iou(a, b, view(out, "box_iou: out"), OnDevice(boxes1));
  return out;
}

LEYOLO_TORCH_OP(box_iou, "(Tensor boxes1, Tensor boxes2) -> Tensor")

}  // namespace leyolo

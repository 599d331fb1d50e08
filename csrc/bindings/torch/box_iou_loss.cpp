#include "ops/box_iou_loss/box_iou_loss.h"

#include "bindings/torch/common.h"
#include "ops/box_iou/box_iou_names.h"

namespace leyolo {

Tensor torch_box_iou_loss(Tensor const& boxes1, Tensor const& boxes2, std::string kind, double eps) {
  View const a = view(boxes1, "box_iou_loss: boxes1"), b = view(boxes2, "box_iou_loss: boxes2");
  check(a.rank == 2, "box_iou_loss: boxes1 and boxes2 must be [N, 4], got ", a, " and ", b);
  Tensor const out = empty(boxes1, {a.shape[0]}, accumulator_of(boxes1));
  box_iou_loss(a, b, view(out, "box_iou_loss: out"), box_iou_kind(kind), eps, OnDevice(boxes1));
  return out;
}

// A gradient that is not wanted comes back empty.
std::tuple<Tensor, Tensor> torch_box_iou_loss_backward(Tensor const& gradient, Tensor const& boxes1,
                                                       Tensor const& boxes2, std::string kind, double eps, bool want1,
                                                       bool want2) {
  View const a = view(boxes1, "box_iou_loss: boxes1"), b = view(boxes2, "box_iou_loss: boxes2");
  check(a.rank == 2 && b.rank == 2, "box_iou_loss: boxes1 and boxes2 must be [N, 4], got ", a, " and ", b);
  using Shape = std::vector<int64_t>;
  Tensor const g1 = empty(boxes1, want1 ? Shape(a.shape, a.shape + 2) : Shape{0}, boxes1.scalar_type());
  Tensor const g2 = empty(boxes2, want2 ? Shape(b.shape, b.shape + 2) : Shape{0}, boxes2.scalar_type());
  box_iou_loss_backward(
      view(gradient, "box_iou_loss: gradient"), a, b, want1 ? view(g1, "box_iou_loss: gradient1") : View(),
      want2 ? view(g2, "box_iou_loss: gradient2") : View(), box_iou_kind(kind), eps, OnDevice(boxes1));
  return {g1, g2};
}

LEYOLO_TORCH_OP(box_iou_loss, "(Tensor boxes1, Tensor boxes2, str kind, float eps) -> Tensor")
LEYOLO_TORCH_OP(box_iou_loss_backward,
                "(Tensor gradient, Tensor boxes1, Tensor boxes2, str kind, float eps, bool want1, bool want2) "
                "-> (Tensor, Tensor)")

}  // namespace leyolo

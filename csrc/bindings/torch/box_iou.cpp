#include "ops/box_iou/box_iou.h"

#include "bindings/torch/common.h"
#include "ops/box_iou/box_iou_names.h"

namespace leyolo {

static IouParams iou_params(std::string const& kind, std::string const& format, double eps) {
  return {box_iou_kind(kind), box_format(format), eps};
}

Tensor torch_box_iou(Tensor const& boxes1, Tensor const& boxes2, std::string kind, std::string format, double eps) {
  View const a = view(boxes1, "box_iou: boxes1"), b = view(boxes2, "box_iou: boxes2");
  check(a.rank == 3 && b.rank == 3, "box_iou: boxes must be [B, N, 4] and [B, M, 4], got ", a, " and ", b);
  Tensor const out = empty(boxes1, {a.shape[0], a.shape[1], b.shape[1]}, accumulator_of(boxes1));
  box_iou(a, b, view(out, "box_iou: out"), iou_params(kind, format, eps), OnDevice(boxes1));
  return out;
}

// A gradient that is not wanted comes back empty.
std::tuple<Tensor, Tensor> torch_box_iou_backward(Tensor const& gradient, Tensor const& boxes1, Tensor const& boxes2,
                                                  std::string kind, std::string format, double eps, bool want1,
                                                  bool want2) {
  View const a = view(boxes1, "box_iou: boxes1"), b = view(boxes2, "box_iou: boxes2");
  check(a.rank == 3 && b.rank == 3, "box_iou: boxes must be [B, N, 4] and [B, M, 4], got ", a, " and ", b);
  using Shape = std::vector<int64_t>;
  Tensor const g1 = empty(boxes1, want1 ? Shape(a.shape, a.shape + 3) : Shape{0}, boxes1.scalar_type());
  Tensor const g2 = empty(boxes2, want2 ? Shape(b.shape, b.shape + 3) : Shape{0}, boxes2.scalar_type());
  box_iou_backward(view(gradient, "box_iou: gradient"), a, b, want1 ? view(g1, "box_iou: gradient1") : View(),
                   want2 ? view(g2, "box_iou: gradient2") : View(), iou_params(kind, format, eps), OnDevice(boxes1));
  return {g1, g2};
}

LEYOLO_TORCH_OP(box_iou, "(Tensor boxes1, Tensor boxes2, str kind, str fmt, float eps) -> Tensor")
LEYOLO_TORCH_OP(box_iou_backward,
                "(Tensor gradient, Tensor boxes1, Tensor boxes2, str kind, str fmt, float eps, bool want1, bool want2) "
                "-> (Tensor, Tensor)")

}  // namespace leyolo

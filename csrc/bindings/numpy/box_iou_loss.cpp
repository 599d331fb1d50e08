#include "ops/box_iou_loss/box_iou_loss.h"

#include "bindings/numpy/common.h"

namespace leyolo {

static py::array numpy_box_iou_loss(py::array const& boxes1, py::array const& boxes2, std::string const& reduction,
                                    double eps, BoxIou kind) {
  check(reduction == "none" || reduction == "mean" || reduction == "sum",
        "box_iou_loss: reduction must be none, mean or sum, got '", reduction, "'");
  View const a = view(boxes1, "box_iou_loss: boxes1"), b = view(boxes2, "box_iou_loss: boxes2");
  check(a.rank == 2, "box_iou_loss: boxes1 and boxes2 must be [N, 4], got ", a, " and ", b);
  py::array const out = empty({a.shape[0]}, a.dtype == DType::f64 ? DType::f64 : DType::f32);
  View const o = view(out, "box_iou_loss: out");
  {
    py::gil_scoped_release nogil;
    box_iou_loss(a, b, o, kind, eps, numpy_context());
  }
  if (reduction == "none") return out;
  return out.attr(reduction == "mean" && a.shape[0] > 0 ? "mean" : "sum")();
}

template <BoxIou kind>
static void bind(py::module_& m, char const* name, char const* text) {
  m.def(
      name,
      [](py::array const& boxes1, py::array const& boxes2, std::string const& reduction, double eps) {
        return numpy_box_iou_loss(boxes1, boxes2, reduction, eps, kind);
      },
      py::arg("boxes1"), py::arg("boxes2"), py::arg("reduction") = "none", py::arg("eps") = 1e-7, text);
}

LEYOLO_NUMPY_OP(box_iou_loss) {
  bind<BoxIou::generalized>(m, "generalized_box_iou_loss", "1 - generalized IoU of pairs: [N, 4], [N, 4] -> [N].");
  bind<BoxIou::distance>(m, "distance_box_iou_loss", "1 - distance IoU of pairs: [N, 4], [N, 4] -> [N].");
  bind<BoxIou::complete>(m, "complete_box_iou_loss", "1 - complete IoU of pairs: [N, 4], [N, 4] -> [N].");
}

}  // namespace leyolo

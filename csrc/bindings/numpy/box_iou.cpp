#include "ops/box_iou/box_iou.h"

#include "bindings/numpy/common.h"
#include "ops/box_iou/box_iou_names.h"

namespace leyolo {

static py::array numpy_box_iou(py::array const& boxes1, py::array const& boxes2, IouParams const& params) {
  View a = view(boxes1, "box_iou: boxes1"), b = view(boxes2, "box_iou: boxes2");
  check(a.rank == b.rank && (a.rank == 2 || a.rank == 3),
        "box_iou: boxes must be [N, 4] and [M, 4] or [B, N, 4] and [B, M, 4], got ", a, " and ", b);
  std::vector<int64_t> shape(a.shape, a.shape + a.rank - 1);
  shape.push_back(b.shape[b.rank - 2]);
  py::array const out = empty(shape, a.dtype == DType::f64 ? DType::f64 : DType::f32);
  View o = view(out, "box_iou: out");
  if (a.rank == 2)
    for (View* v : {&a, &b, &o}) *v = {v->data, v->dtype, v->device, 3, {1, v->shape[0], v->shape[1]}};
  {
    py::gil_scoped_release nogil;
    box_iou(a, b, o, params, numpy_context());
  }
  return out;
}

LEYOLO_NUMPY_OP(box_iou) {
  m.def(
      "box_iou",
      [](py::array const& boxes1, py::array const& boxes2, std::string const& fmt) {
        return numpy_box_iou(boxes1, boxes2, {BoxIou::iou, box_format(fmt)});
      },
      py::arg("boxes1"), py::arg("boxes2"), py::arg("fmt") = "xyxy",
      "IoU of every pair: [N, 4], [M, 4] -> [N, M], or [B, N, 4], [B, M, 4] -> [B, N, M].");
  m.def(
      "generalized_box_iou",
      [](py::array const& boxes1, py::array const& boxes2) {
        return numpy_box_iou(boxes1, boxes2, {BoxIou::generalized});
      },
      py::arg("boxes1"), py::arg("boxes2"), "Generalized IoU of every pair, shapes as box_iou.");
  m.def(
      "distance_box_iou",
      [](py::array const& boxes1, py::array const& boxes2, double eps) {
        return numpy_box_iou(boxes1, boxes2, {BoxIou::distance, BoxFormat::xyxy, eps});
      },
      py::arg("boxes1"), py::arg("boxes2"), py::arg("eps") = 1e-7, "Distance IoU of every pair, shapes as box_iou.");
  m.def(
      "complete_box_iou",
      [](py::array const& boxes1, py::array const& boxes2, double eps) {
        return numpy_box_iou(boxes1, boxes2, {BoxIou::complete, BoxFormat::xyxy, eps});
      },
      py::arg("boxes1"), py::arg("boxes2"), py::arg("eps") = 1e-7, "Complete IoU of every pair, shapes as box_iou.");
}

}  // namespace leyolo

#include "ops/box_iou/box_iou.h"

#include "bindings/numpy/common.h"

namespace leyolo {

static py::array numpy_box_iou(py::array const& boxes1, py::array const& boxes2) {
  View a = view(boxes1, "box_iou: boxes1"), b = view(boxes2, "box_iou: boxes2");
  check(a.rank == 2 && b.rank == 2, "box_iou: boxes must be [N, 4] and [M, 4], got ", a, " and ", b);
  py::array const out = empty({a.shape[0], b.shape[0]}, a.dtype == DType::f64 ? DType::f64 : DType::f32);
  View o = view(out, "box_iou: out");
  for (View* v : {&a, &b, &o}) *v = {v->data, v->dtype, v->device, 3, {1, v->shape[0], v->shape[1]}};
  py::gil_scoped_release nogil;
  box_iou(a, b, o, numpy_context());
  return out;
}

LEYOLO_NUMPY_OP(box_iou) {
  m.def("box_iou", &numpy_box_iou, py::arg("boxes1"), py::arg("boxes2"),
        "IoU of every pair: [N, 4], [M, 4] -> [N, M].");
}

}  // namespace leyolo

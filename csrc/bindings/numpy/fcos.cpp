#include "ops/fcos/fcos.h"

#include "bindings/numpy/assignment.h"

namespace leyolo {

static py::tuple numpy_fcos_assign(py::array const& gt_boxes, py::array const& gt_labels, py::array const& gt_counts,
                                   py::array const& centers, py::array const& strides, double radius,
                                   std::optional<py::array> const& ranges, std::string const& fmt) {
  FcosInputs const in{view_ground_truth(gt_boxes, gt_labels, gt_counts), view(centers, "centers"),
                      view(strides, "strides"), view(ranges, "ranges")};
  Fcos const params{radius, fmt};
  fcos_check(in, params);
  AssignedArrays const out(in.gt.boxes.shape[0], in.centers.shape[0], in.gt.boxes.shape[1]);
  Assigned const views = out.views();
  View const scratch = workspace(fcos_workspace(in));
  {
    py::gil_scoped_release nogil;
    fcos_assign(in, views, scratch, params, numpy_context());
  }
  return out.tuple();
}

LEYOLO_NUMPY_OP(fcos) {
  m.def("fcos_assign", &numpy_fcos_assign, py::arg("gt_boxes"), py::arg("gt_labels"), py::arg("gt_counts"),
        py::arg("centers"), py::arg("strides"), py::kw_only(), py::arg("radius") = 1.5, py::arg("ranges") = py::none(),
        py::arg("fmt") = "xyxy",
        "FCOS labels: (gt_index [B, A], iou [B, A], score [B, A], num_fg [B], dynamic_k [B, G]).");
}

}  // namespace leyolo

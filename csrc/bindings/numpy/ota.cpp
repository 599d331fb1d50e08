#include "ops/ota/ota.h"

#include "bindings/numpy/assignment.h"

namespace leyolo {

// obj_logits takes no part: it is here so that the call is that of simota_assign.
static py::tuple numpy_ota_assign(py::array const& cls_logits, std::optional<py::array> const& /*obj_logits*/,
                                  py::array const& boxes, py::array const& gt_boxes, py::array const& gt_labels,
                                  py::array const& gt_counts, py::array const& centers, py::array const& strides,
                                  double eps, int64_t iterations, int64_t topk, std::string const& fmt) {
  OtaInputs const in{view(cls_logits, "cls_logits"), view(boxes, "boxes"),
                     view_ground_truth(gt_boxes, gt_labels, gt_counts), view(centers, "centers"),
                     view(strides, "strides")};
  Ota const params{eps, iterations, topk, fmt};
  ota_check(in, params);
  AssignedArrays const out(in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Assigned const views = out.views();
  View const scratch = workspace(ota_workspace(in, params));
  {
    py::gil_scoped_release nogil;
    ota_assign(in, views, scratch, params, numpy_context());
  }
  return out.tuple();
}

LEYOLO_NUMPY_OP(ota) {
  m.def("ota_assign", &numpy_ota_assign, py::arg("cls_logits"), py::arg("obj_logits"), py::arg("boxes"),
        py::arg("gt_boxes"), py::arg("gt_labels"), py::arg("gt_counts"), py::arg("centers"), py::arg("strides"),
        py::kw_only(), py::arg("eps") = 0.1, py::arg("iterations") = 50, py::arg("topk") = 20,
        py::arg("fmt") = "cxcywh",
        "OTA labels: (gt_index [B, A], iou [B, A], score [B, A], num_fg [B], dynamic_k [B, G]).");
}

}  // namespace leyolo

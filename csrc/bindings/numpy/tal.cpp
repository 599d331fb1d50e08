#include "ops/tal/tal.h"

#include "bindings/numpy/assignment.h"

namespace leyolo {

static py::tuple numpy_tal_assign(py::array const& scores, py::array const& boxes, py::array const& gt_boxes,
                                  py::array const& gt_labels, py::array const& gt_counts, py::array const& centers,
                                  int64_t topk, double alpha, double beta, double eps, std::string const& fmt) {
  TalInputs const in{view(scores, "scores"), view(boxes, "boxes"), view_ground_truth(gt_boxes, gt_labels, gt_counts),
                     view(centers, "centers")};
  Tal const params{topk, alpha, beta, eps, fmt};
  tal_check(in, params);
  AssignedArrays const out(in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Assigned const views = out.views();
  View const scratch = workspace(tal_workspace(in, params));
  {
    py::gil_scoped_release nogil;
    tal_assign(in, views, scratch, params, numpy_context());
  }
  return out.tuple();
}

LEYOLO_NUMPY_OP(tal) {
  m.def("tal_assign", &numpy_tal_assign, py::arg("scores"), py::arg("boxes"), py::arg("gt_boxes"), py::arg("gt_labels"),
        py::arg("gt_counts"), py::arg("centers"), py::kw_only(), py::arg("topk") = 10, py::arg("alpha") = 0.5,
        py::arg("beta") = 6.0, py::arg("eps") = 1e-9, py::arg("fmt") = "xyxy",
        "Task-aligned labels: (gt_index [B, A], iou [B, A], score [B, A], num_fg [B], dynamic_k [B, G]).");
}

}  // namespace leyolo

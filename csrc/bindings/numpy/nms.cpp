#include "ops/nms/nms.h"

#include <limits>

#include "bindings/numpy/common.h"

namespace leyolo {

using Optional = std::optional<py::array>;

static void run_nms(View const& boxes, View const& scores, View const& labels, View const& counts, View const& indices,
                    View const& kept, Nms const& params) {
  View const scratch = workspace(nms_workspace(boxes, labels));
  py::gil_scoped_release nogil;
  nms(boxes, scores, labels, counts, indices, kept, scratch, params, numpy_context());
}

static py::array numpy_batched_nms(py::array const& boxes, py::array const& scores, Optional const& idxs,
                                   double iou_threshold) {
  View const b = view(boxes, "nms: boxes"), s = view(scores, "nms: scores"), l = view(idxs, "nms: idxs");
  check(b.rank == 2 && s.rank == 1 && (!l || l.rank == 1), "nms: expected boxes [N, 4], scores [N] and idxs [N], got ",
        b, ", ", s, " and ", l);
  py::array_t<int64_t> const indices(b.shape[0]);
  int64_t found = 0;
  View kept = view(py::array(py::array_t<int64_t>(1)), "nms: kept");
  kept.data = &found;
  run_nms(batch_of_one(b), batch_of_one(s), batch_of_one(l), View(), batch_of_one(view(indices, "nms: indices")), kept,
          {iou_threshold, -std::numeric_limits<double>::infinity()});
  return py::array_t<int64_t>(found, indices.data());
}

static py::tuple numpy_nms_padded(py::array const& boxes, py::array const& scores, Optional const& labels,
                                  double iou_threshold, int64_t max_det, double score_threshold,
                                  Optional const& counts) {
  View const b = view(boxes, "nms: boxes");
  check(b.rank == 3, "nms: boxes must be [B, N, 4], got ", b);
  check(max_det >= 0, "nms: max_det must not be negative, got ", max_det);
  py::array const indices = empty({b.shape[0], max_det}, DType::i64), kept = empty({b.shape[0]}, DType::i64);
  run_nms(b, view(scores, "nms: scores"), view(labels, "nms: labels"), view(counts, "nms: counts"),
          view(indices, "nms: indices"), view(kept, "nms: kept"), {iou_threshold, score_threshold});
  return py::make_tuple(indices, kept);
}

LEYOLO_NUMPY_OP(nms) {
  m.def(
      "nms",
      [](py::array const& boxes, py::array const& scores, double iou_threshold) {
        return numpy_batched_nms(boxes, scores, std::nullopt, iou_threshold);
      },
      py::arg("boxes"), py::arg("scores"), py::arg("iou_threshold"),
      "Indices of the kept boxes by descending score: boxes [N, 4], scores [N] -> int64 [K].");
  m.def(
      "batched_nms",
      [](py::array const& boxes, py::array const& scores, py::array const& idxs, double iou_threshold) {
        return numpy_batched_nms(boxes, scores, idxs, iou_threshold);
      },
      py::arg("boxes"), py::arg("scores"), py::arg("idxs"), py::arg("iou_threshold"),
      "nms within each value of idxs (int64 [N]): -> int64 [K], by descending score.");
  m.def("nms_padded", &numpy_nms_padded, py::arg("boxes"), py::arg("scores"), py::arg("labels") = py::none(),
        py::kw_only(), py::arg("iou_threshold"), py::arg("max_det"),
        py::arg("score_threshold") = -std::numeric_limits<double>::infinity(), py::arg("counts") = py::none(),
        "A batch: boxes [B, N, 4], scores [B, N] -> (indices int64 [B, max_det], -1 after the last; kept int64 [B]).");
}

}  // namespace leyolo

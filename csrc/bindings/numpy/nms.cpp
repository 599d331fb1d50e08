#include "ops/nms/nms.h"

#include <cmath>

#include "bindings/numpy/common.h"

namespace leyolo {

static View batch_of_one(View v) {
  View b = v;
  b.rank = v.rank + 1;
  b.shape[0] = 1;
  std::copy_n(v.shape, v.rank, b.shape + 1);
  return b;
}

static py::tuple numpy_nms_padded(py::array const& boxes, py::array const& scores,
                                  std::optional<py::array> const& labels, double iou_threshold, int64_t max_det,
                                  double score_threshold, std::optional<py::array> const& counts) {
  View const b = view(boxes, "nms: boxes"), s = view(scores, "nms: scores"), l = view(labels, "nms: labels"),
             c = view(counts, "nms: counts");
  check(b.rank == 3, "nms: boxes must be [B, N, 4], got ", b);
  check(max_det >= 0, "nms: max_det must not be negative, got ", max_det);
  py::array const indices = empty({b.shape[0], max_det}, DType::i64), kept = empty({b.shape[0]}, DType::i64),
                  workspace = empty({nms_workspace(b)}, DType::u8);
  View const iv = view(indices, "nms: indices"), kv = view(kept, "nms: kept"), wv = view(workspace, "nms: workspace");
  {
    py::gil_scoped_release nogil;
    nms_padded(b, s, l, c, iv, kv, wv,
               {iou_threshold, !(std::isinf(score_threshold) && score_threshold < 0), score_threshold},
               numpy_context());
  }
  return py::make_tuple(indices, kept);
}

// idxs absent: one class.
static py::array numpy_nms(py::array const& boxes, py::array const& scores, std::optional<py::array> const& idxs,
                           double iou_threshold) {
  View const b = view(boxes, "nms: boxes"), s = view(scores, "nms: scores"), l = view(idxs, "nms: idxs");
  check(b.rank == 2 && s.rank == 1 && (!l || l.rank == 1), "nms: boxes must be [N, 4], scores and idxs [N], got ", b,
        ", ", s, ", ", l);
  py::array const indices = empty({b.shape[0]}, DType::i64),
                  workspace = empty({nms_workspace(batch_of_one(b))}, DType::u8);
  int64_t count = 0;
  View const iv = batch_of_one(view(indices, "nms: indices")), wv = view(workspace, "nms: workspace");
  {
    py::gil_scoped_release nogil;
    nms_padded(batch_of_one(b), batch_of_one(s), l ? batch_of_one(l) : View(), View(), iv,
               {&count, DType::i64, Device::cpu, 1, {1}}, wv, {iou_threshold}, numpy_context());
  }
  return indices[py::slice(0, count, 1)].cast<py::array>();
}

LEYOLO_NUMPY_OP(nms) {
  m.def(
      "nms",
      [](py::array const& boxes, py::array const& scores, double iou_threshold) {
        return numpy_nms(boxes, scores, std::nullopt, iou_threshold);
      },
      py::arg("boxes"), py::arg("scores"), py::arg("iou_threshold"),
      "Indices of the kept boxes [N, 4], in order of score: int64 [K].");
  m.def(
      "batched_nms",
      [](py::array const& boxes, py::array const& scores, py::array const& idxs, double iou_threshold) {
        return numpy_nms(boxes, scores, idxs, iou_threshold);
      },
      py::arg("boxes"), py::arg("scores"), py::arg("idxs"), py::arg("iou_threshold"),
      "nms within each class of idxs int64 [N].");
  m.def("nms_padded", &numpy_nms_padded, py::arg("boxes"), py::arg("scores"), py::arg("labels") = py::none(),
        py::kw_only(), py::arg("iou_threshold"), py::arg("max_det"), py::arg("score_threshold") = -INFINITY,
        py::arg("counts") = py::none(),
        "A batch [B, N, 4] at once: indices int64 [B, max_det] (-1 after the last) and kept int64 [B].");
}

}  // namespace leyolo

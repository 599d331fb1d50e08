#include "ops/detect_decode/detect_decode.h"

#include "bindings/numpy/common.h"

namespace leyolo {

static py::tuple numpy_decode(py::array const& logits, py::array const& centers, py::array const& strides,
                              DetectDecode const& params) {
  std::string const op = params.head == BoxHead::dfl ? "detect_decode" : "yolox_decode";
  View const l = view(logits, (op + ": logits").c_str()), c = view(centers, (op + ": centers").c_str()),
             s = view(strides, (op + ": strides").c_str());
  int64_t const k = detect_decode_capacity(l, params), batch = l.shape[0];
  py::array const boxes = empty({batch, k, 4}, DType::f32), scores = empty({batch, k}, DType::f32),
                  labels = empty({batch, k}, DType::i64), counts = empty({batch}, DType::i64),
                  workspace = empty({detect_decode_workspace(l, params)}, DType::u8);
  {
    View const bv = view(boxes, "boxes"), sv = view(scores, "scores"), lv = view(labels, "labels"),
               cv = view(counts, "counts"), wv = view(workspace, "workspace");
    py::gil_scoped_release nogil;
    detect_decode(l, c, s, bv, sv, lv, cv, wv, params, numpy_context());
  }
  return py::make_tuple(boxes, scores, labels, counts);
}

static py::tuple numpy_detect_decode(py::array const& logits, py::array const& centers, py::array const& strides,
                                     int64_t reg_max, double score_threshold, int64_t max_candidates,
                                     bool multi_label) {
  return numpy_decode(logits, centers, strides, {BoxHead::dfl, reg_max, score_threshold, max_candidates, multi_label});
}

static py::tuple numpy_yolox_decode(py::array const& logits, py::array const& centers, py::array const& strides,
                                    double score_threshold, int64_t max_candidates, bool multi_label) {
  return numpy_decode(logits, centers, strides, {BoxHead::yolox, 0, score_threshold, max_candidates, multi_label});
}

LEYOLO_NUMPY_OP(detect_decode) {
  m.def("detect_decode", &numpy_detect_decode, py::arg("logits"), py::arg("centers"), py::arg("strides"), py::kw_only(),
        py::arg("reg_max") = 16, py::arg("score_threshold") = 0.25, py::arg("max_candidates") = 30000,
        py::arg("multi_label") = false,
        "Candidates of a DFL head: [B, A, 4 reg_max + C] -> boxes [B, K, 4] xyxy pixels, scores [B, K], labels [B, K], "
        "counts [B]; what lies behind counts is undefined.");
  m.def("yolox_decode", &numpy_yolox_decode, py::arg("logits"), py::arg("centers"), py::arg("strides"), py::kw_only(),
        py::arg("score_threshold") = 0.25, py::arg("max_candidates") = 30000, py::arg("multi_label") = false,
        "Candidates of a YOLOX head: [B, A, 5 + C], else as detect_decode.");
}

}  // namespace leyolo

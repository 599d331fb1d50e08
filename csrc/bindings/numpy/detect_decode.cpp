#include "ops/detect_decode/detect_decode.h"

#include "bindings/numpy/common.h"

namespace leyolo {

namespace {

struct Result {
  py::array boxes, scores, labels, counts;

  Result(int64_t batch, int64_t k)
      : boxes(empty({batch, k, 4}, DType::f32)),
        scores(empty({batch, k}, DType::f32)),
        labels(empty({batch, k}, DType::i64)),
        counts(empty({batch}, DType::i64)) {}
  py::tuple tuple() const { return py::make_tuple(boxes, scores, labels, counts); }
};

py::tuple decode(py::array const& logits, py::array const& centers, py::array const& strides,
                 DetectDecode const& params) {
  std::string const op = params.head == BoxHead::dfl ? "detect_decode" : "yolox_decode";
  View const l = view(logits, (op + ": logits").c_str()), c = view(centers, (op + ": centers").c_str()),
             s = view(strides, (op + ": strides").c_str());
  Result const result(l.shape[0], detect_decode_capacity(l, params));
  View const scratch = workspace(detect_decode_workspace(l, params));
  {
    View const bv = view(result.boxes, "boxes"), sv = view(result.scores, "scores"), lv = view(result.labels, "labels"),
               cv = view(result.counts, "counts");
    py::gil_scoped_release nogil;
    detect_decode(l, c, s, bv, sv, lv, cv, scratch, params, numpy_context());
  }
  return result.tuple();
}

// [B, A, channels]: a slice of the last axis, and of memory that holds more than this, will do.
DetectRows rows(py::array const& a, std::string const& what) {
  check(a.ndim() == 3 && a.dtype().kind() == 'f' && a.itemsize() == 4, what, " must be float32 [B, A, channels], got ",
        std::string(py::str(a.dtype())), " of ", a.ndim(), " dimensions");
  bool const empty = a.size() == 0;
  check(empty || (a.strides(2) == 4 && a.strides(1) % 4 == 0 && a.strides(0) % 4 == 0), what,
        ": channels must follow one another in memory");
  return {static_cast<float const*>(a.data()),  a.shape(0), a.shape(1), a.shape(2), empty ? 0 : a.strides(0) / 4,
          empty ? a.shape(2) : a.strides(1) / 4};
}

py::tuple numpy_detect_decode_features(py::array const& classes, py::array const& features,
                                       std::vector<py::array> const& weights, std::vector<int64_t> const& anchors,
                                       py::array const& centers, py::array const& strides, int64_t reg_max,
                                       double score_threshold, int64_t max_candidates, bool multi_label) {
  std::string const op = "detect_decode_features";
  DetectDecode const params{BoxHead::dfl, reg_max, score_threshold, max_candidates, multi_label};
  std::vector<View> views;
  for (py::array const& w : weights) views.push_back(view(w, (op + ": weights").c_str()));
  check(weights.size() == anchors.size(), op, ": expected one weight array per level, got ", weights.size(), " for ",
        anchors.size(), " levels");
  DetectRows const c = rows(classes, op + ": classes");
  DetectFeatures const f{rows(features, op + ": features"), int64_t(anchors.size()), anchors.data(), views.data()};
  View const centers_view = view(centers, (op + ": centers").c_str()),
             strides_view = view(strides, (op + ": strides").c_str());
  Result const result(c.batch, detect_decode_features_capacity(c, params));
  View const scratch = workspace(detect_decode_features_workspace(c, f, params));
  {
    View const bv = view(result.boxes, "boxes"), sv = view(result.scores, "scores"), lv = view(result.labels, "labels"),
               cv = view(result.counts, "counts");
    py::gil_scoped_release nogil;
    detect_decode_features(c, f, centers_view, strides_view, bv, sv, lv, cv, scratch, params, numpy_context());
  }
  return result.tuple();
}

py::tuple numpy_detect_decode(py::array const& logits, py::array const& centers, py::array const& strides,
                              int64_t reg_max, double score_threshold, int64_t max_candidates, bool multi_label) {
  return decode(logits, centers, strides, {BoxHead::dfl, reg_max, score_threshold, max_candidates, multi_label});
}

py::tuple numpy_yolox_decode(py::array const& logits, py::array const& centers, py::array const& strides,
                             double score_threshold, int64_t max_candidates, bool multi_label) {
  return decode(logits, centers, strides, {BoxHead::yolox, 0, score_threshold, max_candidates, multi_label});
}

}  // namespace

LEYOLO_NUMPY_OP(detect_decode) {
  m.def("detect_decode", &numpy_detect_decode, py::arg("logits"), py::arg("centers"), py::arg("strides"), py::kw_only(),
        py::arg("reg_max") = 16, py::arg("score_threshold") = 0.25, py::arg("max_candidates") = 30000,
        py::arg("multi_label") = false,
        "Candidates of a DFL head: [B, A, 4 reg_max + C] -> boxes [B, K, 4] xyxy pixels, scores [B, K], labels [B, K], "
        "counts [B]; what lies behind counts is undefined.");
  m.def("detect_decode_features", &numpy_detect_decode_features, py::arg("classes"), py::arg("features"),
        py::arg("weights"), py::arg("anchors"), py::arg("centers"), py::arg("strides"), py::kw_only(),
        py::arg("reg_max") = 16, py::arg("score_threshold") = 0.25, py::arg("max_candidates") = 30000,
        py::arg("multi_label") = false,
        "The same from class logits [B, A, C] and what the last box layers read, [B, A, F]: they run only where there "
        "is a candidate. weights: conv2d_pack per level; anchors: of each level.");
  m.def("yolox_decode", &numpy_yolox_decode, py::arg("logits"), py::arg("centers"), py::arg("strides"), py::kw_only(),
        py::arg("score_threshold") = 0.25, py::arg("max_candidates") = 30000, py::arg("multi_label") = false,
        "Candidates of a YOLOX head: [B, A, 5 + C], else as detect_decode.");
}

}  // namespace leyolo

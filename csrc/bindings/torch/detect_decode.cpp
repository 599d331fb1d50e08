#include "ops/detect_decode/detect_decode.h"

#include "bindings/torch/common.h"

namespace leyolo {

using Candidates = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// What lies behind counts is zero, so that equal inputs give equal outputs.
static Candidates torch_decode(Tensor const& logits, Tensor const& centers, Tensor const& strides,
                               DetectDecode const& params) {
  std::string const op = params.head == BoxHead::dfl ? "detect_decode" : "yolox_decode";
  View const l = view(logits, (op + ": logits").c_str()), c = view(centers, (op + ": centers").c_str()),
             s = view(strides, (op + ": strides").c_str());
  int64_t const k = detect_decode_capacity(l, params), batch = l.shape[0];
  auto const zeros = [&](std::vector<int64_t> const& shape, ScalarType dtype) {
    return torch::stable::new_zeros(logits, shape, dtype);
  };
  Tensor const boxes = zeros({batch, k, 4}, ScalarType::Float), scores = zeros({batch, k}, ScalarType::Float),
               labels = zeros({batch, k}, ScalarType::Long), counts = zeros({batch}, ScalarType::Long);
  Tensor const workspace = empty(logits, {detect_decode_workspace(l, params)}, ScalarType::Byte);
  detect_decode(l, c, s, view(boxes, "boxes"), view(scores, "scores"), view(labels, "labels"), view(counts, "counts"),
                view(workspace, "workspace"), params, OnDevice(logits));
  return {boxes, scores, labels, counts};
}

Candidates torch_detect_decode(Tensor const& logits, Tensor const& centers, Tensor const& strides, int64_t reg_max,
                               double score_threshold, int64_t max_candidates, bool multi_label) {
  return torch_decode(logits, centers, strides, {BoxHead::dfl, reg_max, score_threshold, max_candidates, multi_label});
}

Candidates torch_yolox_decode(Tensor const& logits, Tensor const& centers, Tensor const& strides,
                              double score_threshold, int64_t max_candidates, bool multi_label) {
  return torch_decode(logits, centers, strides, {BoxHead::yolox, 0, score_threshold, max_candidates, multi_label});
}

LEYOLO_TORCH_OP(detect_decode,
                "(Tensor logits, Tensor centers, Tensor strides, int reg_max, float score_threshold, "
                "int max_candidates, bool multi_label) -> (Tensor, Tensor, Tensor, Tensor)")
LEYOLO_TORCH_OP(yolox_decode,
                "(Tensor logits, Tensor centers, Tensor strides, float score_threshold, int max_candidates, "
                "bool multi_label) -> (Tensor, Tensor, Tensor, Tensor)")

}  // namespace leyolo

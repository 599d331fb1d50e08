#include "ops/nms/nms.h"

#include <cmath>

#include "bindings/torch/common.h"

namespace leyolo {

std::tuple<Tensor, Tensor> torch_nms_padded(Tensor const& boxes, Tensor const& scores, OptionalTensor const& labels,
                                            double iou_threshold, int64_t max_det, double score_threshold,
                                            OptionalTensor const& counts) {
  View const b = view(boxes, "nms: boxes"), s = view(scores, "nms: scores"), l = view(labels, "nms: labels"),
             c = view(counts, "nms: counts");
  check(b.rank == 3, "nms: boxes must be [B, N, 4], got ", b);
  check(max_det >= 0, "nms: max_det must not be negative, got ", max_det);
  Tensor const indices = empty(boxes, {b.shape[0], max_det}, ScalarType::Long);
  Tensor const kept = empty(boxes, {b.shape[0]}, ScalarType::Long);
  Tensor const workspace = empty(boxes, {nms_workspace(b)}, ScalarType::Byte);
  nms_padded(b, s, l, c, view(indices, "nms: indices"), view(kept, "nms: kept"), view(workspace, "nms: workspace"),
             {iou_threshold, !(std::isinf(score_threshold) && score_threshold < 0), score_threshold}, OnDevice(boxes));
  return {indices, kept};
}

Tensor torch_nms(Tensor const& boxes, Tensor const& scores, OptionalTensor const& idxs, double iou_threshold) {
  check(boxes.dim() == 2 && scores.dim() == 1 && (!idxs || idxs->dim() == 1),
        "nms: boxes must be [N, 4], scores and idxs [N], got ", boxes.dim(), ", ", scores.dim(), " and ",
        idxs ? idxs->dim() : 1, " dimensions");
  OptionalTensor labels;
  if (idxs) labels = torch::stable::unsqueeze(*idxs, 0);
  auto const [indices, kept] = torch_nms_padded(torch::stable::unsqueeze(boxes, 0), torch::stable::unsqueeze(scores, 0),
                                                labels, iou_threshold, boxes.size(0), -INFINITY, std::nullopt);
  // Only on the CPU: the number of kept boxes is read here.
  Tensor all = torch::stable::select(indices, 0, 0);
  return torch::stable::narrow(all, 0, 0, *static_cast<int64_t const*>(kept.data_ptr()));
}

LEYOLO_TORCH_OP(nms, "(Tensor boxes, Tensor scores, Tensor? idxs, float iou_threshold) -> Tensor")
LEYOLO_TORCH_OP(nms_padded,
                "(Tensor boxes, Tensor scores, Tensor? labels, float iou_threshold, int max_det, "
                "float score_threshold, Tensor? counts) -> (Tensor, Tensor)")

}  // namespace leyolo

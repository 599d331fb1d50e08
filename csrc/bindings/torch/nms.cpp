#include "ops/nms/nms.h"

#include <limits>

#include "bindings/torch/common.h"

namespace leyolo {

static void run_nms(Tensor const& boxes, View const& b, View const& scores, View const& labels, View const& counts,
                    View const& indices, View const& kept, Nms const& params) {
  Tensor const workspace = empty(boxes, {nms_workspace(b, labels)}, ScalarType::Byte);
  nms(b, scores, labels, counts, indices, kept, view(workspace, "nms: workspace"), params, OnDevice(boxes));
}

// labels absent: one class. The result's size needs the kept count on the host.
Tensor torch_nms(Tensor const& boxes, Tensor const& scores, OptionalTensor const& labels, double iou_threshold) {
  View const b = view(boxes, "nms: boxes"), s = view(scores, "nms: scores"), l = view(labels, "nms: idxs");
  check(b.rank == 2 && s.rank == 1 && (!l || l.rank == 1), "nms: expected boxes [N, 4], scores [N] and idxs [N], got ",
        b, ", ", s, " and ", l);
  Tensor const indices = empty(boxes, {b.shape[0]}, ScalarType::Long), kept = empty(boxes, {1}, ScalarType::Long);
  run_nms(boxes, batch_of_one(b), batch_of_one(s), batch_of_one(l), View(), batch_of_one(view(indices, "nms: indices")),
          view(kept, "nms: kept"), {iou_threshold, -std::numeric_limits<double>::infinity()});
  Tensor host = torch::stable::empty({1}, ScalarType::Long);
  torch::stable::copy_(host, kept);  // of CUDA: waits for it
  Tensor all = indices;
  return torch::stable::clone(torch::stable::narrow(all, 0, 0, *view(host, "nms: kept").as<int64_t>()));
}

std::tuple<Tensor, Tensor> torch_nms_padded(Tensor const& boxes, Tensor const& scores, OptionalTensor const& labels,
                                            OptionalTensor const& counts, double iou_threshold, int64_t max_det,
                                            double score_threshold) {
  View const b = view(boxes, "nms: boxes");
  check(b.rank == 3, "nms: boxes must be [B, N, 4], got ", b);
  check(max_det >= 0, "nms: max_det must not be negative, got ", max_det);
  Tensor const indices = empty(boxes, {b.shape[0], max_det}, ScalarType::Long),
               kept = empty(boxes, {b.shape[0]}, ScalarType::Long);
  run_nms(boxes, b, view(scores, "nms: scores"), view(labels, "nms: labels"), view(counts, "nms: counts"),
          view(indices, "nms: indices"), view(kept, "nms: kept"), {iou_threshold, score_threshold});
  return {indices, kept};
}

LEYOLO_TORCH_OP(nms, "(Tensor boxes, Tensor scores, Tensor? labels, float iou_threshold) -> Tensor")
LEYOLO_TORCH_OP(nms_padded,
                "(Tensor boxes, Tensor scores, Tensor? labels, Tensor? counts, float iou_threshold, int max_det, "
                "float score_threshold) -> (Tensor, Tensor)")

}  // namespace leyolo

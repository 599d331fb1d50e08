#include "ops/tal/tal.h"

#include "bindings/torch/assignment.h"

namespace leyolo {

AssignedTensors torch_tal_assign(Tensor const& scores, Tensor const& boxes, Tensor const& gt_boxes,
                                 Tensor const& gt_labels, Tensor const& gt_counts, Tensor const& centers, int64_t topk,
                                 double alpha, double beta, double eps, std::string fmt) {
  TalInputs const in{view(scores, "scores"), view(boxes, "boxes"), view_ground_truth(gt_boxes, gt_labels, gt_counts),
                     view(centers, "centers")};
  Tal const params{topk, alpha, beta, eps, fmt};
  tal_check(in, params);
  AssignedTensors const out = empty_assigned(scores, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Tensor const workspace = empty(scores, {tal_workspace(in, params)}, ScalarType::Byte);
  tal_assign(in, view_assigned(out), view(workspace, "workspace"), params, OnDevice(scores));
  return out;
}

LEYOLO_TORCH_OP(tal_assign,
                "(Tensor scores, Tensor boxes, Tensor gt_boxes, Tensor gt_labels, Tensor gt_counts, Tensor centers, "
                "int topk, float alpha, float beta, float eps, str fmt) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")

}  // namespace leyolo

#include "ops/ota/ota.h"

#include "bindings/torch/assignment.h"

namespace leyolo {

AssignedTensors torch_ota_assign(Tensor const& cls_logits, Tensor const& boxes, Tensor const& gt_boxes,
                                 Tensor const& gt_labels, Tensor const& gt_counts, Tensor const& centers,
                                 Tensor const& strides, double eps, int64_t iterations, int64_t topk, std::string fmt) {
  OtaInputs const in{view(cls_logits, "cls_logits"), view(boxes, "boxes"),
                     view_ground_truth(gt_boxes, gt_labels, gt_counts), view(centers, "centers"),
                     view(strides, "strides")};
  Ota const params{eps, iterations, topk, fmt};
  ota_check(in, params);
  AssignedTensors const out = empty_assigned(cls_logits, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Tensor const workspace = empty(cls_logits, {ota_workspace(in, params)}, ScalarType::Byte);
  ota_assign(in, view_assigned(out), view(workspace, "workspace"), params, OnDevice(cls_logits));
  return out;
}

LEYOLO_TORCH_OP(ota_assign,
                "(Tensor cls_logits, Tensor boxes, Tensor gt_boxes, Tensor gt_labels, Tensor gt_counts, "
                "Tensor centers, Tensor strides, float eps, int iterations, int topk, str fmt) "
                "-> (Tensor, Tensor, Tensor, Tensor, Tensor)")

}  // namespace leyolo

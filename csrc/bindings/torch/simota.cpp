#include "ops/simota/simota.h"

#include "bindings/torch/assignment.h"

namespace leyolo {

static SimotaInputs simota_inputs(Tensor const& cls_logits, OptionalTensor const& obj_logits, Tensor const& boxes,
                                  Tensor const& gt_boxes, Tensor const& gt_labels, Tensor const& gt_counts,
                                  Tensor const& centers, Tensor const& strides) {
  return {view(cls_logits, "cls_logits"), view(obj_logits, "obj_logits"),
          view(boxes, "boxes"),           view_ground_truth(gt_boxes, gt_labels, gt_counts),
          view(centers, "centers"),       view(strides, "strides")};
}

AssignedTensors torch_simota_assign(Tensor const& cls_logits, OptionalTensor const& obj_logits, Tensor const& boxes,
                                    Tensor const& gt_boxes, Tensor const& gt_labels, Tensor const& gt_counts,
                                    Tensor const& centers, Tensor const& strides, std::string rule, int64_t topk,
                                    double iou_weight, double cls_weight, std::string fmt) {
  SimotaInputs const in =
      simota_inputs(cls_logits, obj_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides);
  Simota const params{rule, topk, iou_weight, cls_weight, fmt};
  simota_check("simota_assign", in, params);
  AssignedTensors const out = empty_assigned(cls_logits, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Tensor const workspace = empty(cls_logits, {simota_workspace(in, params)}, ScalarType::Byte);
  simota_assign(in, view_assigned(out), view(workspace, "workspace"), params, OnDevice(cls_logits));
  return out;
}

std::tuple<Tensor, Tensor> torch_simota_cost(Tensor const& cls_logits, OptionalTensor const& obj_logits,
                                             Tensor const& boxes, Tensor const& gt_boxes, Tensor const& gt_labels,
                                             Tensor const& gt_counts, Tensor const& centers, Tensor const& strides,
                                             std::string rule, int64_t topk, double iou_weight, double cls_weight,
                                             std::string fmt) {
  SimotaInputs const in =
      simota_inputs(cls_logits, obj_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides);
  Simota const params{rule, topk, iou_weight, cls_weight, fmt};
  simota_check("simota_cost", in, params);
  std::vector<int64_t> const shape = {in.boxes.shape[0], in.gt.boxes.shape[1], in.boxes.shape[1]};
  Tensor const cost = empty(cls_logits, shape, ScalarType::Float), iou = empty(cls_logits, shape, ScalarType::Float);
  Tensor const workspace = empty(cls_logits, {simota_workspace(in, params)}, ScalarType::Byte);
  simota_cost(in, view(cost, "cost"), view(iou, "iou"), view(workspace, "workspace"), params, OnDevice(cls_logits));
  return {cost, iou};
}

#define LEYOLO_SIMOTA_ARGUMENTS                                                               \
  "(Tensor cls_logits, Tensor? obj_logits, Tensor boxes, Tensor gt_boxes, Tensor gt_labels, " \
  "Tensor gt_counts, Tensor centers, Tensor strides, str rule, int topk, float iou_weight, "  \
  "float cls_weight, str fmt) -> "
LEYOLO_TORCH_OP(simota_assign, LEYOLO_SIMOTA_ARGUMENTS "(Tensor, Tensor, Tensor, Tensor, Tensor)")
LEYOLO_TORCH_OP(simota_cost, LEYOLO_SIMOTA_ARGUMENTS "(Tensor, Tensor)")

}  // namespace leyolo

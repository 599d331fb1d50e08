#include "ops/fcos/fcos.h"

#include "bindings/torch/assignment.h"

namespace leyolo {

AssignedTensors torch_fcos_assign(Tensor const& gt_boxes, Tensor const& gt_labels, Tensor const& gt_counts,
                                  Tensor const& centers, Tensor const& strides, double radius,
                                  OptionalTensor const& ranges, std::string fmt) {
  FcosInputs const in{view_ground_truth(gt_boxes, gt_labels, gt_counts), view(centers, "centers"),
                      view(strides, "strides"), view(ranges, "ranges")};
  Fcos const params{radius, fmt};
  fcos_check(in, params);
  AssignedTensors const out = empty_assigned(gt_boxes, in.gt.boxes.shape[0], in.centers.shape[0], in.gt.boxes.shape[1]);
  Tensor const workspace = empty(gt_boxes, {fcos_workspace(in)}, ScalarType::Byte);
  fcos_assign(in, view_assigned(out), view(workspace, "workspace"), params, OnDevice(gt_boxes));
  return out;
}

LEYOLO_TORCH_OP(fcos_assign,
                "(Tensor gt_boxes, Tensor gt_labels, Tensor gt_counts, Tensor centers, Tensor strides, float radius, "
                "Tensor? ranges, str fmt) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")

}  // namespace leyolo

// FCOS label assignment with centre sampling (arXiv:1904.01355 and its 2020 extension): an anchor belongs to ground
// truth i if its centre lies strictly inside the box and strictly inside the square of half side radius * stride around
// the box's centre, and if the largest of its distances to the four sides lies in [low, high] of its level. Among
// several the one of smallest area gets it (ties: lower index). No predictions take part.
#pragma once

#include "core/assignment.h"

namespace leyolo {

struct FcosInputs {
  GroundTruth gt;  // labels are not looked at
  View centers;    // [A, 2] pixels
  View strides;    // [A] pixels
  View ranges;     // [levels, 2] f32, f16, bf16, one row for each distinct stride in order of appearance, else an
                   // error on the CPU, and on the GPU a stride without a row takes nothing; or absent
};

struct Fcos {
  double radius = 1.5;
  std::string fmt = "xyxy";
};

void fcos_check(FcosInputs const& in, Fcos const& params);
int64_t fcos_workspace(FcosInputs const& in);  // bytes, after fcos_check
// iou = score = 1 on foreground: the target of an anchor is all of its ground truth. dynamic_k = anchors given to it.
void fcos_assign(FcosInputs const& in, Assigned const& out, View workspace, Fcos const& params, Context const& context);

int64_t fcos_workspace_cpu(FcosInputs const& in);
int64_t fcos_workspace_cuda(FcosInputs const& in);
void fcos_assign_cpu(FcosInputs const& in, Assigned const& out, View workspace, Fcos const& params,
                     Context const& context);
void fcos_assign_cuda(FcosInputs const& in, Assigned const& out, View workspace, Fcos const& params,
                      Context const& context);

}  // namespace leyolo

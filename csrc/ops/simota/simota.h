// SimOTA label assignment (YOLOX: Exceeding YOLO Series in 2021, arXiv:2107.08430, section 2.1). For every image:
//   candidates   anchors whose centre lies strictly within the square of half side r * stride around the centre of any
//                ground truth. Rule "main": r = 1.5. Rule "v030": r = 2.5, or strictly inside any ground truth's box.
//   related      main: within this ground truth's square; v030: inside its box and within its square.
//   cost(i, j)   cls_weight * sum_c BCE(p(j, c), [c == class of i]) + iou_weight * -log(iou(i, j) + 1e-8)
//                + penalty (main 1e6, v030 1e5) where i and j are not related;
//                p = sqrt(sigmoid(class) * sigmoid(objectness)), or sigmoid(class) where no objectness is given;
//                the logarithms of BCE are clamped at -100. NaN costs are infinite; the IoU of NaN boxes is 0.
//   k(i)         max(1, floor(sum of the min(topk, N) largest IoUs of i over all N candidates)), at most min(topk, N)
//   matching     each ground truth marks its k candidates of smallest finite cost (ties: lower anchor); an anchor
//   marked
//                more than once goes to the ground truth of smallest cost among all of the image (ties: lower index).
// No candidate, no ground truth, no anchor: all background. The class term never needs a [G, N, C] array: it is the
// candidate's sum of -log(1 - p) over all classes plus log(1 - p) - log(p) of the one class.
#pragma once

#include "core/assignment.h"
#include "ops/simota/simota_math.h"

namespace leyolo {

struct SimotaInputs {
  View cls_logits;  // [B, A, C] f32, f16, bf16, each input for itself; all is computed in float32
  View obj_logits;  // [B, A] or absent
  View boxes;       // [B, A, 4]
  GroundTruth gt;
  View centers;  // [A, 2] pixels
  View strides;  // [A] pixels
};

struct Simota {
  std::string rule = "main";
  int64_t topk = 10;
  double iou_weight = 3, cls_weight = 1;
  std::string fmt = "cxcywh";  // of boxes and gt.boxes
};

inline bool is_v030(Simota const& params) { return params.rule == "v030"; }
inline float simota_radius(Simota const& params) { return is_v030(params) ? 2.5f : 1.5f; }
inline SimotaCost simota_rule(Simota const& params) {
  bool const older = is_v030(params);
  return {float(params.iou_weight), float(params.cls_weight), older ? 1e5f : 1e6f, older};
}

void simota_check(char const* op, SimotaInputs const& in, Simota const& params);
int64_t simota_workspace(SimotaInputs const& in, Simota const& params);  // bytes, after simota_check
// score = iou.
void simota_assign(SimotaInputs const& in, Assigned const& out, View workspace, Simota const& params,
                   Context const& context);
// For inspection. Infinite cost and zero IoU where the anchor is no candidate or the ground truth is padding.
void simota_cost(SimotaInputs const& in, View cost /*[B, G, A] f32*/, View iou /*[B, G, A] f32*/, View workspace,
                 Simota const& params, Context const& context);

int64_t simota_workspace_cpu(SimotaInputs const& in, Simota const& params);
int64_t simota_workspace_cuda(SimotaInputs const& in, Simota const& params);
void simota_assign_cpu(SimotaInputs const& in, Assigned const& out, View workspace, Simota const& params,
                       Context const& context);
void simota_assign_cuda(SimotaInputs const& in, Assigned const& out, View workspace, Simota const& params,
                        Context const& context);
void simota_cost_cpu(SimotaInputs const& in, View cost, View iou, View workspace, Simota const& params,
                     Context const& context);
void simota_cost_cuda(SimotaInputs const& in, View cost, View iou, View workspace, Simota const& params,
                      Context const& context);

}  // namespace leyolo

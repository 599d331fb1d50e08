// Optimal transport assignment (OTA, arXiv:2103.14259). For every image, ground truth i, anchor j:
//   central(i, j)  j's centre lies more than 0.01 px inside the box and strictly within 2.5 strides of its centre
//   c(i, j)        sum of the focal losses over all classes + 1.5 * -log(max(iou, 2^-23)) + 1e6 where not central
//   c(bg, j)       sum of the focal losses with no class present: the background is one more supplier
//   supplies       mu_i = max(1, floor(sum of the topk largest iou(i, j) where central)), mu_bg = the remaining anchors
//   plan           Sinkhorn's iterations in the log domain, demand 1 of every anchor, potentials from 1, v first
//   decision       each supplier's row divided by its maximum; an anchor goes to the largest entry of its column (ties:
//                  the lower index, the background last)
// An anchor with a logit of NaN or +infinity is background; the IoU of NaN boxes is 0. Objectness takes no part in
// OTA's cost.
#pragma once

#include "core/assignment.h"

namespace leyolo {

struct OtaInputs {
  View cls_logits;  // [B, A, C] f32, f16, bf16, each input for itself; all is computed in float32
  View boxes;       // [B, A, 4]
  GroundTruth gt;
  View centers;  // [A, 2] pixels
  View strides;  // [A] pixels
};

struct Ota {
  double eps = 0.1;
  int64_t iterations = 50, topk = 20;
  std::string fmt = "cxcywh";  // of boxes and gt.boxes
};

void ota_check(OtaInputs const& in, Ota const& params);
int64_t ota_workspace(OtaInputs const& in, Ota const& params);  // bytes, after ota_check: one image's costs
// score = iou; dynamic_k = mu.
void ota_assign(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params, Context const& context);

}  // namespace leyolo

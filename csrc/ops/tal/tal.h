// Task-aligned label assignment (TOOD, arXiv:2108.07755; the variant that Ultralytics 8.1 and LeYOLO train with).
// For every image, ground truth i, anchor j:
//   in(i, j)   the anchor's centre lies more than 1e-9 inside the ground truth on every side
//   o(i, j)    max(0, complete IoU) where in, else 0
//   m(i, j)    score(j, class of i)^alpha * o^beta where in, else 0
//   matching   each ground truth marks the topk anchors of largest m over the whole image (ties: lower anchor; where
//              fewer than topk are positive the picks go on among the zeros), of which those with in(i, j) count; an
//              anchor marked more than once goes to the ground truth of largest o among all (ties: lower index).
//   score      m(i, j) * max o / (max m + eps), the maxima over the anchors finally given to i
// NaN never matches.
#pragma once

#include "core/assignment.h"

namespace leyolo {

struct TalInputs {
  View scores;  // [B, A, C] probabilities; f32, f16, bf16, each input for itself; all is computed in float32
  View boxes;   // [B, A, 4]
  GroundTruth gt;
  View centers;  // [A, 2] pixels
};

struct Tal {
  int64_t topk = 10;
  double alpha = 0.5, beta = 6, eps = 1e-9;
  std::string fmt = "xyxy";  // of boxes and gt.boxes
};

void tal_check(TalInputs const& in, Tal const& params);
int64_t tal_workspace(TalInputs const& in, Tal const& params);  // bytes, after tal_check
// iou = plain IoU; dynamic_k = anchors finally given to the ground truth.
void tal_assign(TalInputs const& in, Assigned const& out, View workspace, Tal const& params, Context const& context);

int64_t tal_workspace_cpu(TalInputs const& in, Tal const& params);
int64_t tal_workspace_cuda(TalInputs const& in, Tal const& params);
void tal_assign_cpu(TalInputs const& in, Assigned const& out, View workspace, Tal const& params,
                    Context const& context);
void tal_assign_cuda(TalInputs const& in, Assigned const& out, View workspace, Tal const& params,
                     Context const& context);

}  // namespace leyolo

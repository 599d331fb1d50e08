// OTA label assignment: optimal transport from ground truths to anchors (arXiv:2103.14259), by Sinkhorn's iteration in
// the log domain. For every image, ground truth i, anchor j:
//   related      the centre of j lies more than 0.01 px inside the box of i on every side and strictly within the
//   square
//                of half side 2.5 * stride around the centre of i
//   cost(i, j)   sum_c Focal(p(j, c), [c == class of i]) + 1.5 * -log(max(iou(i, j), 2^-23)) + 1e6 where not related;
//                p = sigmoid(class), Focal: alpha 0.25, gamma 2
//   cost(bg, j)  sum_c Focal(p(j, c), 0)
//   supply       mu(i) = max(1, floor(sum of the topk largest IoUs among related anchors)); mu(bg) = A - sum of mu(i),
//                at least 0. Every anchor demands 1.
//   iteration    v(j) = -eps * LSE_i((u(i) - cost(i, j)) / eps); u(i) = eps * (log(mu(i) + 1e-8) - LSE_j((v(j) -
//                cost(i, j)) / eps)); u starts at 1 and v is renewed first, `iterations` times
//   decision     plan(i, j) = exp((u(i) + v(j) - cost(i, j)) / eps), each row divided by its maximum; j goes to the row
//   of
//                largest value (ties: lower ground truth, background last), compared as logarithms
// An anchor with a NaN or +infinite logit stays background; the IoU of NaN boxes is 0. Objectness takes no part.
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
// Bytes, after ota_check: the costs of the fullest image (4 (G + 1) A) and small change, whatever the number of images,
// which are worked on one after another with all threads. On the GPU, which does not see the counts, 4 (G + 1) A for
// each of as many images as make up 32 MiB, at least one.
int64_t ota_workspace(OtaInputs const& in, Ota const& params);
// score = iou; dynamic_k = mu.
void ota_assign(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params, Context const& context);

int64_t ota_workspace_cpu(OtaInputs const& in, Ota const& params);
int64_t ota_workspace_cuda(OtaInputs const& in, Ota const& params);
void ota_assign_cpu(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params,
                    Context const& context);
void ota_assign_cuda(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params,
                     Context const& context);

}  // namespace leyolo

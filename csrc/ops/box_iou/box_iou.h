// Pairwise IoU of axis-aligned boxes and its relatives: generalized (Rezatofighi et al., arXiv 1902.09630), distance
// and complete (Zheng et al., arXiv 1911.08287).
#pragma once

#include "core/context.h"
#include "core/view.h"
#include "ops/box_iou/box_iou_math.h"

namespace leyolo {

struct IouParams {
  BoxIou kind = BoxIou::iou;
  BoxFormat format = BoxFormat::xyxy;  // of both sets
  double eps = 1e-7;                   // distance and complete
};

// out[b, i, j] of boxes1[b, i] and boxes2[b, j]; computed in float32 (float64 for float64 boxes).
void box_iou(View boxes1 /*[B, N, 4]*/, View boxes2 /*[B, M, 4]*/, View out /*[B, N, M] f32, f64 for f64*/,
             IouParams const& params, Context const& context);

// Gradients with respect to the boxes, each where its View is present. alpha of the complete variant is a constant.
void box_iou_backward(View gradient /*as out*/, View boxes1, View boxes2, View gradient1 /*as boxes1, or absent*/,
                      View gradient2 /*as boxes2, or absent*/, IouParams const& params, Context const& context);

void box_iou_cpu(View boxes1, View boxes2, View out, IouParams const& params, Context const& context);
void box_iou_cuda(View boxes1, View boxes2, View out, IouParams const& params, Context const& context);
void box_iou_backward_cpu(View gradient, View boxes1, View boxes2, View gradient1, View gradient2,
                          IouParams const& params, Context const& context);
void box_iou_backward_cuda(View gradient, View boxes1, View boxes2, View gradient1, View gradient2,
                           IouParams const& params, Context const& context);

}  // namespace leyolo

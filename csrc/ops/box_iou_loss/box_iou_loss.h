// 1 - IoU of pairs of boxes, in the three variants of the IoU family that make a loss (see box_iou.h).
#pragma once

#include "core/context.h"
#include "core/view.h"
#include "ops/box_iou/box_iou_math.h"

namespace leyolo {

// out[i] = 1 - score(boxes1[i], boxes2[i]), with eps in every denominator; computed in float32 (float64 for float64).
void box_iou_loss(View boxes1 /*[N, 4] xyxy*/, View boxes2 /*[N, 4] xyxy*/, View out /*[N] f32, f64 for f64*/,
                  BoxIou kind /*not iou*/, double eps, Context const& context);

// Gradients with respect to the boxes, each where its View is present. alpha of the complete variant is a constant.
void box_iou_loss_backward(View gradient /*[N] as out*/, View boxes1, View boxes2,
                           View gradient1 /*as boxes1, or absent*/, View gradient2 /*as boxes2, or absent*/,
                           BoxIou kind, double eps, Context const& context);

// Both passes; absent Views are left out: the loss itself, or a gradient.
void box_iou_loss_cpu(View boxes1, View boxes2, View out, View gradient, View gradient1, View gradient2, BoxIou kind,
                      double eps, Context const& context);
void box_iou_loss_cuda(View boxes1, View boxes2, View out, View gradient, View gradient1, View gradient2, BoxIou kind,
                       double eps, Context const& context);

}  // namespace leyolo

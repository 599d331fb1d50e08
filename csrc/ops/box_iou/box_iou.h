// Pairwise IoU of axis-aligned boxes (x1, y1, x2, y2).
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

// out[b, i, j] = IoU(boxes1[b, i], boxes2[b, j]); computed in float32 (float64 for float64 boxes).
void box_iou(View boxes1 /*[B, N, 4]*/, View boxes2 /*[B, M, 4]*/, View out /*[B, N, M] f32, f64 for f64*/,
             Context const& context);

void box_iou_cpu(View boxes1, View boxes2, View out, Context const& context);
void box_iou_cuda(View boxes1, View boxes2, View out, Context const& context);

}  // namespace leyolo

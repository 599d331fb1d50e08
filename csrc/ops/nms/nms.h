// Greedy non-maximum suppression with exactly torchvision's results, for a batch of images.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct Nms {
  double iou_threshold = 0;
  double score_threshold = 0;  // minus infinity: every box takes part, also one whose score is NaN or minus infinity
};

// Per image: the boxes whose score exceeds score_threshold, by descending score (NaN first; on ties the lower index
// first); each is kept unless a kept one before it with the same label has an IoU above iou_threshold with it (a NaN
// IoU never suppresses). indices[b] holds the first max_det kept ones and then -1, kept[b] their number.
// Only the first counts[b] boxes of an image take part (clamped to 0 .. N). float16 and bfloat16 are computed in
// float32. Images run in parallel.
void nms(View boxes /*[B, N, 4]*/, View scores /*[B, N], dtype of boxes*/, View labels /*[B, N] i64 or absent*/,
         View counts /*[B] i64 or absent*/, View indices /*[B, max_det] i64*/, View kept /*[B] i64*/,
         View workspace /*nms_workspace bytes, u8, 8-aligned*/, Nms const& params, Context const& context);

int64_t nms_workspace(View boxes, View labels);

void nms_cpu(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
             Nms const& params, Context const& context);
void nms_cuda(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
              Nms const& params, Context const& context);

}  // namespace leyolo

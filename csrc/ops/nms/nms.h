// Greedy non-maximum suppression with torchvision's results: descending score, stable on ties (the lower index first),
// NaN scores first; a box is dropped when its IoU with a kept box of its class is strictly above the threshold. Classes
// are compared, not told apart by shifted coordinates.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct Nms {
  double iou_threshold = 0.7;
  bool filter = false;  // drop boxes whose score is not strictly above score_threshold (NaN too)
  double score_threshold = 0;
};

// IoU in float32 (float64 for float64 boxes), without contraction. The images of a batch run side by side.
void nms_padded(View boxes /*[B, N, 4] f32, f16, bf16, f64*/, View scores /*[B, N] as boxes*/,
                View labels /*[B, N] i64, or absent: one class*/,
                View counts /*[B] i64: boxes to look at, or absent: N*/,
                View indices /*[B, max_det] i64, -1 after the last*/, View kept /*[B] i64*/,
                View workspace /*bytes: nms_workspace*/, Nms const& params, Context const& context);

int64_t nms_workspace(View boxes);

}  // namespace leyolo

// Shared with ota.exact.simd.cpp, hence no standard header.
#pragma once

#include "ops/ota/ota_math.h"

namespace leyolo {

// One ground truth over all anchors; sizes are rounded up to kPad.
struct OtaCostArgs {
  float const *x, *y, *radius, *sum;  // of the anchors
  Rows boxes, targets;
  long long target, size;
  float* logits;        // those of the ground truth's class in, [size]; overwritten
  float* cost;          // [size] out
  float* negative_iou;  // [size] out: -iou where the anchor is central, else 0
};

// The transport problem: cost[i * pitch + j] from supplier i (ground truths, then the background) to anchor j.
struct OtaTransport {
  float const* cost;
  long long pitch, suppliers, anchors;
  float *u, *v;         // potentials of suppliers and anchors
  float const* log_mu;  // log of each supply
  float* row_best;      // [suppliers]: the largest exponent of a supplier's row
  float scale;          // 1 / eps
  float eps;
};

}  // namespace leyolo

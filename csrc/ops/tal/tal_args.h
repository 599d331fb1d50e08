// Shared with tal.exact.simd.cpp, hence no standard header.
#pragma once

#include "ops/tal/tal_math.h"

namespace leyolo {

// The anchors whose centre lies in ground truth `target`, in order, and the overlaps of their boxes with it.
struct TalRowArgs {
  float const *x, *y;  // centres, [padded size]
  Rows boxes, targets;
  long long target, size;
  int* anchors;     // [size] out
  float* overlaps;  // [size] out
};

// overlaps[g] of one anchor with every ground truth, 0 where its centre lies outside. size is rounded up to kPad.
struct TalColumnArgs {
  float x, y;
  Rows boxes, targets;
  long long anchor, size;
  float* overlaps;
};

// metrics[i] = -tal_metric: the smallest is the best. size is rounded up to kPad.
struct TalMetricArgs {
  float const *scores, *overlaps;
  float* metrics;
  long long size;
  float alpha, beta;
};

}  // namespace leyolo

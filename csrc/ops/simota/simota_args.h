// Shared with simota.exact.simd.cpp, hence no standard header.
#pragma once

#include "ops/simota/simota_math.h"

namespace leyolo {

// mask[i] = anchor i is a candidate, for i in [begin, end); both are multiples of kPad.
struct SimotaMaskArgs {
  float const *x, *y, *radius;  // of the anchors
  Rows targets;
  long long target_count;
  long long begin, end;
  unsigned char* mask;
  int inside;
};

// The class sum of one candidate in two parts.
struct SimotaSumArgs {
  float const* logits;
  long long classes;
  float objectness;
  int with_objectness;
  float sum, sum_low;  // out
};

// values[i]: a logit in, its class_difference out; size is a multiple of kPad.
struct SimotaDifferenceArgs {
  float* values;
  float const* objectness;  // one for each value, or null: none
  long long size;
};

// Costs of one ground truth (row: over candidates) or of one candidate (column: over ground truths). The other side is
// column `index` of its rows. Sizes are rounded up to kPad.
struct SimotaPairArgs {
  Rows candidates, targets;
  long long index, size;
  float const* differences;  // [size]
  float* cost;               // [size]
  float* iou;                // [size] or null
  SimotaCost rule;
};

}  // namespace leyolo

// Shared with ota.exact.simd.cpp, hence no standard header. A tile holds the packed costs of kTile anchors: a row of
// kTile for each ground truth and a last one for the background.
#pragma once

#include "ops/ota/ota_math.h"

namespace leyolo {

constexpr int kTile = 16;      // anchors; whatever the vector length, so that all sums have one order
constexpr int kOtaChunk = 32;  // tiles; sums are taken per chunk, so that they do not depend on the threads

// Fills the tile of the anchors [first, first + valid).
struct OtaTileArgs {
  Rows anchors, targets;
  int const* labels;
  long long target_count;
  float const* logits;  // [valid, classes]
  long long classes, first;
  int valid;
  float scale;  // 1 / eps
  float* tile;  // [target_count + 1, kTile] out
};

// values[j] = -iou of every anchor that is related to ground truth `target`, else 0. size is rounded up to kPad.
struct OtaSupplyArgs {
  Rows anchors, targets;
  long long target, size;
  float* values;
};

struct OtaTiles {
  float const* tiles;
  long long rows;           // target_count + 1
  long long begin, end;     // of the tiles
  long long anchors;        // lanes at or past this one hold none
  float const *near, *far;  // [rows] potentials
};

// Renews v of the tiles' anchors and adds up the plan (u old, v new) of each row over them.
struct OtaColumnArgs {
  OtaTiles of;
  float* v;     // [tiles * kTile]; -infinity where there is no anchor
  float* plan;  // scratch [rows, kTile]
  int* active;  // scratch [rows]
  float* sums;  // [rows, kTile] added to
};

// The largest v - cost of row `row` among related and among penalised anchors, without the penalty.
struct OtaRowArgs {
  OtaTiles of;
  float const* v;
  long long row;
  float best_near, best_far;  // out
};

// owner[j] = the row that is least below its largest, the first of equal ones.
struct OtaDecideArgs {
  OtaTiles of;
  float const* v;
  int* owner;  // [tiles * kTile]
};

}  // namespace leyolo

// The steps of SimOTA that assignment and cost share: scratch memory, candidates and the cost rows of one image after
// another.
#pragma once

#include "ops/simota/simota.h"
#include "ops/simota/simota_args.h"

namespace leyolo {

struct SimotaPlan {
  SimotaPlan(SimotaInputs const& in, Simota const& params, void* workspace);

  // Candidates of every image with all that their costs need; ground truths in the order of their classes.
  void prepare(Context const& context);

  // Costs (and IoUs) of ground truth g of image b over its candidates. `differences` holds those of image `of_image`
  // and class `of_class` and is renewed where they differ.
  struct RowBuffers {
    float *differences, *cost, *iou;
    int64_t of_image = -1, of_class = -1;
  };
  void row(int64_t b, int64_t g, RowBuffers& buffers) const;
  // Costs of candidate i of image b over its ground truths.
  void column(int64_t b, int64_t i, float* objectness, float* differences, float* cost) const;

  RowBuffers buffers(int64_t slot) const { return {row_of(slot, 0), row_of(slot, 1), row_of(slot, 2)}; }
  float* row_of(int64_t slot, int k) const { return slots + (3 * slot + k) * width; }
  Rows candidates_of(int64_t b) const {
    return {candidates.base + b * kCandidateFields * candidates.pitch, candidates.pitch};
  }
  Rows targets_of(int64_t b) const { return {targets.base + b * kBoxFields * targets.pitch, targets.pitch}; }
  int64_t target_count(int64_t b) const { return target_offsets[b + 1] - target_offsets[b]; }
  int64_t label(int64_t b, int64_t g) const { return int_at(in.gt.labels, b * G + g); }
  // Ground truth of work item t of image b: neighbours in the order share their class, hence their differences.
  int64_t target_at(int64_t b, int64_t t) const { return int64_t(order[b * G + t - target_offsets[b]] & 0xffffffff); }

  SimotaInputs in;
  SimotaCost rule;
  float radius;
  bool xyxy;
  int64_t B, A, C, G, topk, width;

  Rows anchors, candidates, targets;
  Marks marks;
  int64_t *counts, *target_offsets, *order;  // candidates [B]; ground truths [B + 1]; [B, G]
  int *index, *ks;                           // anchor of each candidate [B, A]; dynamic k [B, G]
  unsigned char* mask;                       // [B, padded(A)]
  float *slots, *best_values;                // [kSlots, 3, width], [kSlots, topk]
  int64_t bytes;

 private:
  void fill_candidate(int64_t b, int64_t i, float* buffer) const;
  template <class T>
  void gather(T const* logits, int64_t b, int64_t c, float* to) const;
};

}  // namespace leyolo

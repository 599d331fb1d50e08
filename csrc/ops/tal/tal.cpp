#include "ops/tal/tal.h"

#include <cmath>

#include "core/dispatch.h"
#include "ops/tal/tal_args.h"

namespace leyolo {

LEYOLO_SIMD(long long tal_row(TalRowArgs const&))
LEYOLO_SIMD(void tal_column(TalColumnArgs const&))
LEYOLO_SIMD(void tal_metrics(TalMetricArgs const&))

namespace {

struct Plan {
  TalInputs const& in;
  float alpha, beta, eps;
  bool xyxy;
  int64_t B, A, C, G, topk, width;
  Rows centers, boxes, targets;
  int64_t* target_offsets;    // [B + 1]
  float *best_o, *best_m;     // [B, G]: largest overlap and metric among a ground truth's own anchors
  float *overlaps, *metrics;  // [B, A] of the final matches
  float *slots, *values;      // [kSlots, 3, width], [kSlots, topk]
  int* anchors;               // [kSlots, width]
  Marks marks;
  int64_t bytes;

  Plan(TalInputs const& inputs, Tal const& params, void* workspace) : in(inputs) {
    alpha = float(params.alpha), beta = float(params.beta), eps = float(params.eps);
    xyxy = params.fmt == "xyxy";
    B = in.scores.shape[0], A = in.scores.shape[1], C = in.scores.shape[2], G = in.gt.boxes.shape[1];
    topk = std::min(params.topk, A);
    width = padded(std::max(A, G));
    Scratch memory(workspace);
    centers = memory.rows(2, A);
    boxes = memory.rows(int(B * kTalFields), A);
    targets = memory.rows(int(B * kTalFields), G);
    target_offsets = memory.take<int64_t>(B + 1);
    best_o = memory.take<float>(B * G);
    best_m = memory.take<float>(B * G);
    overlaps = memory.take<float>(B * A);
    metrics = memory.take<float>(B * A);
    slots = memory.take<float>(kSlots * 3 * width);
    values = memory.take<float>(kSlots * topk);
    anchors = memory.take<int>(kSlots * width);
    marks = Marks(memory, B, G, A, topk);
    bytes = memory.used();
  }

  float* slot_row(int64_t slot, int k) const { return slots + (3 * slot + k) * width; }
  Rows boxes_of(int64_t b) const { return {boxes.base + b * kTalFields * boxes.pitch, boxes.pitch}; }
  Rows targets_of(int64_t b) const { return {targets.base + b * kTalFields * targets.pitch, targets.pitch}; }
  int64_t target_count(int64_t b) const { return target_offsets[b + 1] - target_offsets[b]; }
  float score(int64_t b, int64_t g, int64_t j) const {
    return float_at(in.scores, (b * A + j) * C + int_at(in.gt.labels, b * G + g));
  }

  void prepare(Context const& context) const;
  void mark(int64_t b, int64_t g, int64_t slot) const;
  int64_t winner(int64_t b, int64_t j, int64_t slot) const;
  void write(int64_t b, Assigned const& out) const;
};

void fill_column(View from, int64_t source, bool xyxy, Rows rows, int64_t i) {
  fill_box(from, source, xyxy, rows, i);
  rows[kAngle][i] = box_angle(rows[kX1][i], rows[kY1][i], rows[kX2][i], rows[kY2][i]);
}

void pad(Rows rows, int fields, int64_t count) {
  for (int field = 0; field < fields; ++field) std::fill(rows[field] + count, rows[field] + padded(count), 0.0f);
}

void Plan::prepare(Context const& context) const {
  fill_offsets(in.gt.counts, target_offsets);
  for (int64_t j = 0; j < A; ++j)
    for (int d : {0, 1}) centers[d][j] = float_at(in.centers, 2 * j + d);
  pad(centers, 2, A);
  parallel_for(context, 0, B * A, 512, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) fill_column(in.boxes, i, xyxy, boxes_of(i / A), i % A);
  });
  parallel_for(context, 0, target_offsets[B], 128, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = image_of(target_offsets, B, t), g = t - target_offsets[b];
      fill_column(in.gt.boxes, b * G + g, xyxy, targets_of(b), g);
    }
  });
  for (int64_t b = 0; b < B; ++b) pad(boxes_of(b), kTalFields, A), pad(targets_of(b), kTalFields, target_count(b));
}

void Plan::mark(int64_t b, int64_t g, int64_t slot) const {
  int* const inside = anchors + slot * width;  // anchors within the ground truth, in order
  float *const overlap = slot_row(slot, 0), *const scores = slot_row(slot, 1), *const metric = slot_row(slot, 2);
  int* const picks = marks.picks_of(b, g);
  int& found = marks.found_by(b, g) = 0;
  int64_t const n = LEYOLO_PICK(tal_row)({centers[0], centers[1], boxes_of(b), targets_of(b), g, A, inside, overlap});
  if (n == 0) return;
  for (int64_t i = 0; i < n; ++i) scores[i] = score(b, g, inside[i]);
  std::fill(scores + n, scores + padded(n), 0.0f);
  std::fill(overlap + n, overlap + padded(n), 0.0f);
  LEYOLO_PICK(tal_metrics)({scores, overlap, metric, padded(n), alpha, beta});
  float* const best = values + slot * topk;
  found = int(LEYOLO_PICK(select_smallest)({metric, n, std::min(topk, n), best, picks}));
  while (found > 0 && !(best[found - 1] < 0)) --found;  // zeros are picked below, among those of the whole image
  for (int p = 0; p < found; ++p) picks[p] = inside[picks[p]];
  // Anchor j is the (j - positive)-th of the image's zeros, where `positive` counts the positive ones before it.
  int64_t const zeros = topk - found;
  int64_t positive = 0;
  for (int64_t i = 0; i < n && inside[i] - positive < zeros; ++i) {
    if (metric[i] < 0)
      ++positive;
    else if (metric[i] == 0)
      picks[found++] = inside[i];
  }
}

// The ground truth of largest overlap; none overlaps: the first.
int64_t Plan::winner(int64_t b, int64_t j, int64_t slot) const {
  float* const overlap = slot_row(slot, 0);
  int64_t const n = target_count(b);
  LEYOLO_PICK(tal_column)({centers[0][j], centers[1][j], boxes_of(b), targets_of(b), j, padded(n), overlap});
  return std::max_element(overlap, overlap + n) - overlap;
}

void Plan::write(int64_t b, Assigned const& out) const {
  Rows const all_boxes = boxes_of(b), all_targets = targets_of(b);
  int const* const owner = marks.owner_of(b);
  int64_t* const k = out.dynamic_k.as<int64_t>() + b * G;
  float *const most_o = best_o + b * G, *const most_m = best_m + b * G;
  float *const o = overlaps + b * A, *const m = metrics + b * A;
  std::fill_n(most_o, G, 0.0f);
  std::fill_n(most_m, G, 0.0f);
  for (int64_t j = 0; j < A; ++j) {
    int const g = owner[j];
    if (g == kNobody) continue;
    AreaBox<float> const target = box_at(all_targets, g), box = box_at(all_boxes, j);
    bool const inside = in_box(centers[0][j], centers[1][j], target, kTalMargin);
    o[j] = inside ? tal_overlap(target, all_targets[kAngle][g], box, all_boxes[kAngle][j]) : 0.0f;
    m[j] = inside ? tal_metric(score(b, g, j), o[j], alpha, beta) : 0.0f;
    if (m[j] != m[j]) m[j] = 0;  // a conflict may hand an anchor to a class whose score is NaN
    most_o[g] = max_of(most_o[g], o[j]);
    most_m[g] = max_of(most_m[g], m[j]);
    ++k[g];
  }
  for (int64_t j = 0; j < A; ++j) {
    int const g = owner[j];
    if (g == kNobody) continue;
    int64_t const at = b * A + j;
    out.gt_index.as<int64_t>()[at] = g;
    out.iou.as<float>()[at] = overlap_iou(box_at(all_targets, g), box_at(all_boxes, j));
    out.score.as<float>()[at] = m[j] * most_o[g] / (most_m[g] + eps);
    ++out.num_fg.as<int64_t>()[b];
  }
}

}  // namespace

void tal_check(TalInputs const& in, Tal const& params) {
  char const* const op = "tal_assign";
  check(in.scores.rank == 3, op, ": scores must be [B, A, C], got ", in.scores);
  check_floats(op, "scores", in.scores);
  int64_t const images = in.scores.shape[0], anchors = in.scores.shape[1];
  check(anchors < int64_t(1) << 31 && in.gt.boxes.numel() < int64_t(1) << 31, op,
        ": too many anchors or ground truths");
  check(in.boxes.rank == 3 && in.boxes.shape[0] == images && in.boxes.shape[1] == anchors && in.boxes.shape[2] == 4, op,
        ": boxes must be [", images, ", ", anchors, ", 4], got ", in.boxes);
  check_floats(op, "boxes", in.boxes);
  check_ground_truth(op, in.gt, images, in.scores.shape[2]);
  check_centers(op, in.centers, anchors);
  check(params.topk >= 1, op, ": topk must be at least 1, got ", params.topk);
  check(params.alpha >= 0 && params.beta >= 0 && std::isfinite(params.alpha) && std::isfinite(params.beta), op,
        ": alpha and beta must be finite and not negative, got ", params.alpha, " and ", params.beta);
  check(params.eps > 0, op, ": eps must be positive, got ", params.eps);
  is_xyxy(op, params.fmt);
  check_one_device(op, in.scores, {in.boxes, in.gt.boxes, in.centers});
}

int64_t tal_workspace(TalInputs const& in, Tal const& params) {
  return LEYOLO_DISPATCH("tal_assign", in.scores.device, tal_workspace_cpu(in, params), tal_workspace_cuda(in, params));
}

void tal_assign(TalInputs const& in, Assigned const& out, View workspace, Tal const& params, Context const& context) {
  tal_check(in, params);
  check_assigned("tal_assign", out, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  check_workspace("tal_assign", workspace, tal_workspace(in, params));
  LEYOLO_DISPATCH("tal_assign", in.scores.device, tal_assign_cpu(in, out, workspace, params, context),
                  tal_assign_cuda(in, out, workspace, params, context));
}

int64_t tal_workspace_cpu(TalInputs const& in, Tal const& params) { return Plan(in, params, nullptr).bytes; }

void tal_assign_cpu(TalInputs const& in, Assigned const& out, View workspace, Tal const& params,
                    Context const& context) {
  Plan const plan(in, params, workspace.data);
  plan.prepare(context);
  for_slots(context, plan.target_offsets[plan.B], [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = image_of(plan.target_offsets, plan.B, t);
      plan.mark(b, t - plan.target_offsets[b], slot);
    }
  });
  plan.marks.settle(
      context, [&](int64_t) { return plan.A; }, [&](int64_t b) { return plan.target_count(b); },
      [&](int64_t b, int64_t j, int64_t slot) { return plan.winner(b, j, slot); });
  clear(out, context);
  parallel_for(context, 0, plan.B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) plan.write(b, out);
  });
}

}  // namespace leyolo

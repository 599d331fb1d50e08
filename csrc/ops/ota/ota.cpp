#include "ops/ota/ota.h"

#include <cmath>

#include "core/cpu.h"
#include "ops/ota/ota_args.h"

namespace leyolo {

LEYOLO_SIMD(float ota_class_sum(float const* logits, long long classes))
LEYOLO_SIMD(void ota_costs(OtaCostArgs const&))
LEYOLO_SIMD(void ota_columns(OtaTransport const&, long long begin, long long end))
LEYOLO_SIMD(void ota_row(OtaTransport const&, long long i))
LEYOLO_SIMD(void ota_row_best(OtaTransport const&, long long i))
LEYOLO_SIMD(void ota_owners(OtaTransport const&, long long begin, long long end, int* owner))

namespace {

// The images take turns on one set of costs; within an image all threads work.
struct Plan {
  OtaInputs const& in;
  bool xyxy;
  int64_t B, A, C, G, topk, most, width;  // most: ground truths of the fullest image
  Rows anchors;                           // x, y, radius, class sum
  Rows boxes, targets;
  float *cost, *u, *v, *log_mu, *row_best;  // [most + 1, padded(A)], [most + 1], [padded(A)], [most + 1], [most + 1]
  float *slots, *values;                    // [kSlots, 2, width], [kSlots, topk]
  int *owner, *indices;                     // [padded(A)], [kSlots, topk]
  int64_t bytes;

  Plan(OtaInputs const& inputs, Ota const& params, void* workspace) : in(inputs) {
    xyxy = params.fmt == "xyxy";
    B = in.cls_logits.shape[0], A = in.cls_logits.shape[1], C = in.cls_logits.shape[2], G = in.gt.boxes.shape[1];
    topk = std::min(params.topk, A);
    most = 0;
    for (int64_t b = 0; b < B; ++b) most = std::max(most, int_at(in.gt.counts, b));
    width = padded(std::max(A, C));
    Scratch memory(workspace);
    anchors = memory.rows(4, A);
    boxes = memory.rows(kBoxFields, A);
    targets = memory.rows(kBoxFields, most);
    cost = memory.take<float>((most + 1) * padded(A));
    u = memory.take<float>(most + 1);
    v = memory.take<float>(padded(A));
    log_mu = memory.take<float>(most + 1);
    row_best = memory.take<float>(most + 1);
    slots = memory.take<float>(kSlots * 2 * width);
    values = memory.take<float>(kSlots * topk);
    owner = memory.take<int>(padded(A));
    indices = memory.take<int>(kSlots * topk);
    bytes = memory.used();
  }

  void load_image(int64_t b, int64_t n, Context const& context) const;
  void fill_costs(int64_t b, int64_t n, int64_t* mu, Context const& context) const;
  void transport(int64_t n, Ota const& params, Context const& context) const;
  void write(int64_t b, int64_t n, Assigned const& out) const;
};

void Plan::load_image(int64_t b, int64_t n, Context const& context) const {
  fill_boxes(in.gt.boxes, b * G, n, xyxy, targets);
  for_slots(context, (A + 63) / 64, [&](int64_t begin, int64_t end, int64_t slot) {
    float* const buffer = slots + slot * 2 * width;
    for (int64_t j = 64 * begin; j < std::min(64 * end, A); ++j) {
      fill_box(in.boxes, b * A + j, xyxy, boxes, j);
      anchors[0][j] = float_at(in.centers, 2 * j);
      anchors[1][j] = float_at(in.centers, 2 * j + 1);
      anchors[2][j] = kOtaRadius * float_at(in.strides, j);
      float const sum = LEYOLO_PICK(ota_class_sum)(floats_at(in.cls_logits, (b * A + j) * C, C, buffer), C);
      anchors[3][j] = sum < HUGE_VALF ? sum : std::nanf("");  // an infinite logit is no better than NaN
    }
  });
  for (int field = 0; field < kBoxFields; ++field) std::fill(boxes[field] + A, boxes[field] + padded(A), 0.0f);
  for (int field = 0; field < 4; ++field) std::fill(anchors[field] + A, anchors[field] + padded(A), 0.0f);
}

void Plan::fill_costs(int64_t b, int64_t n, int64_t* mu, Context const& context) const {
  for_slots(context, n, [&](int64_t begin, int64_t end, int64_t slot) {
    float *const logits = slots + slot * 2 * width, *const overlap = logits + width, *const best = values + slot * topk;
    for (int64_t g = begin; g < end; ++g) {
      int64_t const c = int_at(in.gt.labels, b * G + g);
      for_float(in.cls_logits.dtype, "ota_assign", [&](auto zero) {
        auto const* const from = in.cls_logits.as<decltype(zero)>() + b * A * C + c;
        for (int64_t j = 0; j < A; ++j) logits[j] = float(from[j * C]);
      });
      std::fill(logits + A, logits + padded(A), 0.0f);
      float* const row = cost + g * padded(A);
      LEYOLO_PICK(ota_costs)
      ({anchors[0], anchors[1], anchors[2], anchors[3], boxes, targets, g, padded(A), logits, row, overlap});
      for (int64_t j = 0; j < A; ++j)
        if (row[j] != row[j]) row[j] = 1e30f;
      int64_t const found = LEYOLO_PICK(select_smallest)({overlap, A, topk, best, indices + slot * topk});
      float sum = 0;
      for (int64_t i = 0; i < found; ++i) sum -= best[i];
      mu[g] = std::max<int64_t>(1, int64_t(sum));
      log_mu[g] = log_exact(float(mu[g]) + 1e-8f);
    }
  });
  int64_t background = A;
  for (int64_t g = 0; g < n; ++g) background -= mu[g];
  log_mu[n] = log_exact(float(std::max<int64_t>(background, 0)) + 1e-8f);
  float* const row = cost + n * padded(A);
  for (int64_t j = 0; j < padded(A); ++j) row[j] = anchors[3][j] == anchors[3][j] ? anchors[3][j] : 0.0f;
}

void Plan::transport(int64_t n, Ota const& params, Context const& context) const {
  OtaTransport const t{cost, padded(A), n + 1, A, u, v, log_mu, row_best, 1.0f / float(params.eps), float(params.eps)};
  int64_t const blocks = padded(A) / kPad;
  std::fill_n(u, n + 1, 1.0f);
  int64_t const columns = 1 + 4096 / (n + 1), rows = 1 + 65536 / A;  // a piece that is worth a thread
  for (int64_t iteration = 0; iteration < params.iterations; ++iteration) {
    parallel_for(context, 0, blocks, columns,
                 [&](int64_t begin, int64_t end) { LEYOLO_PICK(ota_columns)(t, begin * kPad, end * kPad); });
    parallel_for(context, 0, n + 1, rows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) LEYOLO_PICK(ota_row)(t, i);
    });
  }
  parallel_for(context, 0, n + 1, rows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) LEYOLO_PICK(ota_row_best)(t, i);
  });
  parallel_for(context, 0, blocks, columns,
               [&](int64_t begin, int64_t end) { LEYOLO_PICK(ota_owners)(t, begin * kPad, end * kPad, owner); });
}

void Plan::write(int64_t b, int64_t n, Assigned const& out) const {
  for (int64_t j = 0; j < A; ++j) {
    if (owner[j] == n || anchors[3][j] != anchors[3][j]) continue;
    int64_t const at = b * A + j;
    out.gt_index.as<int64_t>()[at] = owner[j];
    out.iou.as<float>()[at] = out.score.as<float>()[at] = overlap_iou(box_at(targets, owner[j]), box_at(boxes, j));
    ++out.num_fg.as<int64_t>()[b];
  }
}

}  // namespace

void ota_check(OtaInputs const& in, Ota const& params) {
  char const* const op = "ota_assign";
  check(in.cls_logits.rank == 3, op, ": cls_logits must be [B, A, C], got ", in.cls_logits);
  check_floats(op, "cls_logits", in.cls_logits);
  int64_t const images = in.cls_logits.shape[0], anchors = in.cls_logits.shape[1];
  check(anchors < int64_t(1) << 31 && in.gt.boxes.numel() < int64_t(1) << 31, op,
        ": too many anchors or ground truths");
  check(in.boxes.rank == 3 && in.boxes.shape[0] == images && in.boxes.shape[1] == anchors && in.boxes.shape[2] == 4, op,
        ": boxes must be [", images, ", ", anchors, ", 4], got ", in.boxes);
  check_floats(op, "boxes", in.boxes);
  check_ground_truth(op, in.gt, images, in.cls_logits.shape[2]);
  check_centers(op, in.centers, anchors);
  check_strides(op, in.strides, anchors);
  check(params.eps > 0 && std::isfinite(params.eps), op, ": eps must be positive and finite, got ", params.eps);
  check(params.iterations >= 1, op, ": iterations must be at least 1, got ", params.iterations);
  check(params.topk >= 1, op, ": topk must be at least 1, got ", params.topk);
  is_xyxy(op, params.fmt);
}

int64_t ota_workspace(OtaInputs const& in, Ota const& params) { return Plan(in, params, nullptr).bytes; }

void ota_assign(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params, Context const& context) {
  ota_check(in, params);
  check_assigned("ota_assign", out, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  Plan const plan(in, params, workspace.data);
  check_workspace("ota_assign", workspace, plan.bytes);
  clear(out, context);
  for (int64_t b = 0; b < plan.B; ++b) {
    int64_t const n = int_at(in.gt.counts, b);
    if (n == 0 || plan.A == 0) continue;
    plan.load_image(b, n, context);
    plan.fill_costs(b, n, out.dynamic_k.as<int64_t>() + b * plan.G, context);
    plan.transport(n, params, context);
    plan.write(b, n, out);
  }
}

}  // namespace leyolo

#include "ops/ota/ota.h"

#include <cmath>

#include "core/dispatch.h"
#include "ops/ota/ota_args.h"

namespace leyolo {

LEYOLO_SIMD(void ota_tile(OtaTileArgs const&))
LEYOLO_SIMD(void ota_supply(OtaSupplyArgs const&))
LEYOLO_SIMD(void ota_columns(OtaColumnArgs const&))
LEYOLO_SIMD(void ota_row_best(OtaRowArgs&))
LEYOLO_SIMD(double ota_row_sum(OtaRowArgs const&))
LEYOLO_SIMD(void ota_decide(OtaDecideArgs const&))

namespace {

// One image at a time.
struct Plan {
  OtaInputs const& in;
  double eps, penalty;  // the penalty in units of eps, as all potentials and costs are
  int64_t iterations, topk;
  bool xyxy;
  int64_t B, A, C, G, rows, tiles, chunks, column_slots;  // rows: of the fullest image, background included
  Rows anchors, targets;
  float* costs;                   // [tiles, n + 1, kTile]
  float* v;                       // [tiles, kTile]
  double* u;                      // [n + 1]
  float *near, *far, *log_mu;     // [n + 1]
  double* partial;                // [chunks, n + 1]
  int *labels, *owner;            // [n], [tiles, kTile]
  float *logits, *values, *best;  // [kSlots, ...]: [kTile, C], [padded(A)], [topk]
  int* indices;                   // [kSlots, topk]
  float *shares, *sums;           // [column_slots, G + 1, kTile]
  int* active;                    // [column_slots, G + 1]
  int64_t bytes;

  Plan(OtaInputs const& inputs, Ota const& params, void* workspace) : in(inputs) {
    eps = params.eps, penalty = kOtaPenalty / eps, iterations = params.iterations, xyxy = params.fmt == "xyxy";
    B = in.cls_logits.shape[0], A = in.cls_logits.shape[1], C = in.cls_logits.shape[2], G = in.gt.boxes.shape[1];
    topk = std::min(params.topk, A);
    rows = 1;
    for (int64_t b = 0; b < B; ++b) rows = std::max(rows, int_at(in.gt.counts, b) + 1);
    tiles = padded(A) / kTile, chunks = (tiles + kOtaChunk - 1) / kOtaChunk, column_slots = std::min(chunks, kSlots);
    Scratch memory(workspace);
    anchors = memory.rows(kOtaFields, A);
    targets = memory.rows(kBoxFields, rows);
    costs = memory.take<float>(tiles * rows * kTile);
    v = memory.take<float>(tiles * kTile);
    u = memory.take<double>(rows);
    near = memory.take<float>(rows);
    far = memory.take<float>(rows);
    log_mu = memory.take<float>(rows);
    partial = memory.take<double>(chunks * rows);
    labels = memory.take<int>(rows);
    owner = memory.take<int>(tiles * kTile);
    logits = memory.take<float>(in.cls_logits.dtype == DType::f32 ? 0 : kSlots * kTile * C);
    values = memory.take<float>(kSlots * padded(A));
    best = memory.take<float>(kSlots * topk);
    indices = memory.take<int>(kSlots * topk);
    shares = memory.take<float>(column_slots * rows * kTile);
    sums = memory.take<float>(column_slots * rows * kTile);
    active = memory.take<int>(column_slots * rows);
    bytes = memory.used();
  }

  OtaTiles tiles_of(int64_t n, int64_t begin, int64_t end) const { return {costs, n + 1, begin, end, A, near, far}; }

  void prepare(int64_t b, int64_t n, Context const& context) const;
  void supply(int64_t n, int64_t* mu, Context const& context) const;
  void iterate(int64_t n, Context const& context) const;
  void decide(int64_t n, Context const& context) const;
  void write(int64_t b, int64_t n, Assigned const& out) const;
  double row_top(int64_t n, int64_t row) const;
  double log_row_sum(int64_t n, int64_t row) const;
};

void Plan::prepare(int64_t b, int64_t n, Context const& context) const {
  fill_boxes(in.gt.boxes, b * G, n, xyxy, targets);
  for (int64_t g = 0; g < n; ++g) labels[g] = int(int_at(in.gt.labels, b * G + g));
  parallel_for(context, 0, padded(A), 512, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      if (j >= A) {
        for (int field = 0; field < kOtaFields; ++field) anchors[field][j] = 0;
        continue;
      }
      fill_box(in.boxes, b * A + j, xyxy, anchors, j);
      anchors[kCenterX][j] = float_at(in.centers, 2 * j);
      anchors[kCenterY][j] = float_at(in.centers, 2 * j + 1);
      anchors[kOtaRadius][j] = kOtaRadii * float_at(in.strides, j);
    }
  });
  for_slots(context, tiles, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t const first = t * kTile, valid = std::min<int64_t>(kTile, A - first);
      float const* const raw = floats_at(in.cls_logits, (b * A + first) * C, valid * C, logits + slot * kTile * C);
      LEYOLO_PICK(ota_tile)
      ({anchors, targets, labels, n, raw, C, first, int(valid), float(1 / eps), costs + t * (n + 1) * kTile});
    }
  });
}

// mu of every ground truth, and the logarithms of all supplies.
void Plan::supply(int64_t n, int64_t* mu, Context const& context) const {
  for_slots(context, n, [&](int64_t begin, int64_t end, int64_t slot) {
    float *const row = values + slot * padded(A), *const most = best + slot * topk;
    for (int64_t g = begin; g < end; ++g) {
      LEYOLO_PICK(ota_supply)({anchors, targets, g, padded(A), row});
      int64_t const found = LEYOLO_PICK(select_smallest)({row, A, topk, most, indices + slot * topk});
      float sum = 0;
      for (int64_t i = 0; i < found; ++i) sum -= most[i];
      mu[g] = whole_part(sum, A);
    }
  });
  int64_t left = A;
  for (int64_t g = 0; g < n; ++g) {
    left -= mu[g];
    log_mu[g] = ota_log_supply(mu[g]);
  }
  log_mu[n] = ota_log_supply(std::max<int64_t>(left, 0));
}

// The largest v - cost of the row; leaves the potentials that bring it to 0.
double Plan::row_top(int64_t n, int64_t row) const {
  OtaRowArgs a{tiles_of(n, 0, tiles), v, row, 0, 0};
  LEYOLO_PICK(ota_row_best)(a);
  OtaTop const top = ota_top(a.best_near, a.best_far, penalty);
  near[row] = top.near, far[row] = top.far;
  return top.value;
}

// log of the sum of e^(v - cost) over the row, for rows of which nothing is left next to the others in their columns.
double Plan::log_row_sum(int64_t n, int64_t row) const {
  double const top = row_top(n, row);
  if (!std::isfinite(top)) return top;
  return top + double(log_exact(float(LEYOLO_PICK(ota_row_sum)({tiles_of(n, 0, tiles), v, row, 0, 0}))));
}

void Plan::iterate(int64_t n, Context const& context) const {
  std::fill_n(u, n + 1, 1 / eps);
  for (int64_t round = 0; round < iterations; ++round) {
    for (int64_t i = 0; i <= n; ++i) near[i] = float(u[i]), far[i] = float(u[i] - penalty);
    for_slots(context, chunks, [&](int64_t begin, int64_t end, int64_t slot) {
      float* const mine = sums + slot * rows * kTile;
      for (int64_t c = begin; c < end; ++c) {
        std::fill_n(mine, (n + 1) * kTile, 0.0f);
        LEYOLO_PICK(ota_columns)
        ({tiles_of(n, c * kOtaChunk, std::min(tiles, (c + 1) * kOtaChunk)), v, shares + slot * rows * kTile,
          active + slot * rows, mine});
        for (int64_t i = 0; i <= n; ++i) {
          double sum = 0;
          for (int l = 0; l < kTile; ++l) sum += double(mine[i * kTile + l]);
          partial[c * rows + i] = sum;
        }
      }
    });
    parallel_for(context, 0, n + 1, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double sum = 0;
        for (int64_t c = 0; c < chunks; ++c) sum += partial[c * rows + i];
        double const change = sum > kOtaVanished ? u[i] + double(log_mu[i]) - double(log_exact(float(sum)))
                                                 : double(log_mu[i]) - log_row_sum(n, i);
        if (std::isfinite(change)) u[i] = change;
      }
    });
  }
}

// Every row against its own maximum, where its potential drops out.
void Plan::decide(int64_t n, Context const& context) const {
  parallel_for(context, 0, n + 1, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) row_top(n, i);
  });
  parallel_for(context, 0, chunks, 1, [&](int64_t begin, int64_t end) {
    LEYOLO_PICK(ota_decide)({tiles_of(n, begin * kOtaChunk, std::min(tiles, end * kOtaChunk)), v, owner});
  });
}

void Plan::write(int64_t b, int64_t n, Assigned const& out) const {
  int64_t foreground = 0;
  for (int64_t j = 0; j < A; ++j) {
    if (owner[j] == n) continue;
    out.gt_index.as<int64_t>()[b * A + j] = owner[j];
    float const iou = overlap_iou(box_at(targets, owner[j]), box_at(anchors, j));
    out.iou.as<float>()[b * A + j] = out.score.as<float>()[b * A + j] = iou;
    ++foreground;
  }
  out.num_fg.as<int64_t>()[b] = foreground;
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
  check(params.eps >= 1e-6, op, ": eps must be at least 1e-6, got ", params.eps);
  check(params.iterations >= 1, op, ": iterations must be at least 1, got ", params.iterations);
  check(params.topk >= 1, op, ": topk must be at least 1, got ", params.topk);
  is_xyxy(op, params.fmt);
  check_one_device(op, in.cls_logits, {in.boxes, in.gt.boxes, in.centers, in.strides});
}

int64_t ota_workspace(OtaInputs const& in, Ota const& params) {
  return LEYOLO_DISPATCH("ota_assign", in.cls_logits.device, ota_workspace_cpu(in, params),
                         ota_workspace_cuda(in, params));
}

void ota_assign(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params, Context const& context) {
  ota_check(in, params);
  check_assigned("ota_assign", out, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  check_workspace("ota_assign", workspace, ota_workspace(in, params));
  LEYOLO_DISPATCH("ota_assign", in.cls_logits.device, ota_assign_cpu(in, out, workspace, params, context),
                  ota_assign_cuda(in, out, workspace, params, context));
}

int64_t ota_workspace_cpu(OtaInputs const& in, Ota const& params) { return Plan(in, params, nullptr).bytes; }

void ota_assign_cpu(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params,
                    Context const& context) {
  Plan const plan(in, params, workspace.data);
  clear(out, context);
  for (int64_t b = 0; b < plan.B; ++b) {
    int64_t const n = int_at(in.gt.counts, b);
    if (n == 0 || plan.A == 0) continue;
    plan.prepare(b, n, context);
    plan.supply(n, out.dynamic_k.as<int64_t>() + b * plan.G, context);
    plan.iterate(n, context);
    plan.decide(n, context);
    plan.write(b, n, out);
  }
}

}  // namespace leyolo

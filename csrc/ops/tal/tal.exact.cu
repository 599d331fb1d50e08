#include "core/assignment.cuh"
#include "ops/tal/tal.h"
#include "ops/tal/tal_math.h"

namespace leyolo {

namespace {

constexpr int kMatch = 128;

struct Plan {
  Truths truths;
  Floats scores, boxes, centers_in;
  float alpha, beta, eps;
  bool xyxy;
  int64_t B, A, C, G, topk;

  float2* centers;  // [A]
  int* owner;       // [B, A]
  float* metric;    // [B, A]: of the final matches
  int* best;        // [B, G, 2]: bits of the largest overlap and metric among a ground truth's own anchors
  int64_t bytes;

  Plan(TalInputs const& in, Tal const& params, void* workspace)
      : truths(in.gt, in.scores.shape[2], params.fmt == "xyxy"),
        scores(in.scores),
        boxes(in.boxes),
        centers_in(in.centers),
        alpha(float(params.alpha)),
        beta(float(params.beta)),
        eps(float(params.eps)),
        xyxy(truths.xyxy) {
    B = in.scores.shape[0], A = in.scores.shape[1], C = in.scores.shape[2], G = truths.G;
    topk = std::min(params.topk, A);
    Scratch memory(workspace);
    centers = memory.take<float2>(A);
    owner = memory.take<int>(B * A);
    metric = memory.take<float>(B * A);
    best = memory.take<int>(B * G * 2);
    bytes = memory.used();
  }
};

struct Target {
  AreaBox<float> box;
  float angle;
};

__device__ __forceinline__ Target target_at(Plan const& p, int64_t b, int g) {
  AreaBox<float> const box = p.truths.box(b, g).box;
  return {box, box_angle(box.x1, box.y1, box.x2, box.y2)};
}

__device__ __forceinline__ float overlap_with(Target const& t, AreaBox<float> const& box) {
  return tal_overlap(t.box, t.angle, box, box_angle(box.x1, box.y1, box.x2, box.y2));
}

__device__ __forceinline__ bool holds(Target const& t, float2 center) {
  return in_box(center.x, center.y, t.box, kTalMargin);
}

__device__ __forceinline__ float metric_of(Plan const& p, int64_t b, int64_t j, int label, float overlap) {
  return tal_metric(p.scores[(b * p.A + j) * p.C + label], overlap, p.alpha, p.beta);
}

__global__ void __launch_bounds__(kThreads) tal_prepare(Plan p, Outputs out) {
  int64_t const i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (i < p.A) p.centers[i] = {p.centers_in[2 * i], p.centers_in[2 * i + 1]};
  if (i < p.B * p.A) p.owner[i] = kNobody;
  if (i < p.B * p.G) {
    p.best[2 * i] = p.best[2 * i + 1] = 0;
    out.dynamic_k[i] = 0;
  }
  if (i < p.B) out.num_fg[i] = 0;
}

// One block per ground truth: its topk anchors of largest metric; where fewer are positive the picks go on among the
// zeros of the image.
__global__ void __launch_bounds__(kMatch, 8) tal_match(Plan p) {
  LEYOLO_SHARED(Key, slots, 2 * kMatch / kWarp);
  int64_t const b = blockIdx.x / p.G;
  int const g = int(blockIdx.x % p.G), label = p.truths.label(b, g);
  if (g >= p.truths.count(b) || label < 0) return;
  Target const target = target_at(p, b, g);
  int* const owner = p.owner + b * p.A;
  auto const metric_at = [&](int64_t j) {
    return metric_of(p, b, j, label, overlap_with(target, load_box(p.boxes, b * p.A + j, p.xyxy).box));
  };
  auto const for_own = [&](auto&& offer) {
    for (int64_t j = threadIdx.x; j < p.A; j += kMatch) {
      if (!holds(target, p.centers[j])) continue;
      float const metric = metric_at(j);
      if (metric > 0.0f) offer(key_of(-metric, int(j)));
    }
  };
  Shortlist list;
  list.clear();
  for_own([&](Key key) { list.offer(key); });
  int round = 0;
  int64_t zeros = p.topk;
  for (; zeros > 0; --zeros) {
    Key const best = list.take(slots, round, for_own);
    if (best == kNoKey) break;
    if (threadIdx.x == 0) mark(owner + item_of(best), g);
  }
  if (threadIdx.x >= kWarp) return;
  // Anchor j is the (j - positive)-th of the image's zeros, where `positive` counts the positive ones before it.
  int64_t positive = 0;
  for (int64_t base = 0; base < p.A && base - positive < zeros; base += kWarp) {
    int64_t const j = base + threadIdx.x;
    bool const inside = j < p.A && holds(target, p.centers[j]);
    float const metric = inside ? metric_at(j) : -1.0f;
    unsigned const votes = __ballot_sync(kAllLanes, metric > 0.0f);
    int64_t const before = positive + __popc(votes & ((1u << threadIdx.x) - 1));
    if (metric == 0.0f && j - before < zeros) mark(owner + j, g);
    positive += __popc(votes);
  }
}

// One thread per anchor; a warp gives each of its contested ones to the ground truth of largest overlap of all.
__global__ void __launch_bounds__(kThreads, 4) tal_resolve(Plan p, int64_t blocks_per_image, Outputs out) {
  int64_t const b = blockIdx.x / blocks_per_image, j = blockIdx.x % blocks_per_image * kThreads + threadIdx.x;
  int const lane = threadIdx.x % kWarp;
  int owner = j < p.A ? p.owner[b * p.A + j] : kNobody;
  for (unsigned contested = __ballot_sync(kAllLanes, owner == kSeveral); contested; contested &= contested - 1) {
    int const which = __ffs(contested) - 1, n = p.truths.count(b);
    int64_t const anchor = j - lane + which;
    AreaBox<float> const box = load_box(p.boxes, b * p.A + anchor, p.xyxy).box;
    Key best = kNoKey;
    for (int g = lane; g < n; g += kWarp) {
      if (p.truths.label(b, g) < 0) continue;
      Target const t = target_at(p, b, g);
      Key const key = key_of(holds(t, p.centers[anchor]) ? -overlap_with(t, box) : 0.0f, g);
      best = key < best ? key : best;
    }
    best = warp_smallest(best);
    if (lane == which) owner = item_of(best);
  }
  unsigned const foreground = __ballot_sync(kAllLanes, owner >= 0);
  if (lane == 0 && foreground) add_to(out.num_fg + b, __popc(foreground));
  if (owner < 0) return;
  int64_t const at = b * p.A + j, row = b * p.G + owner;
  Target const t = target_at(p, b, owner);
  bool const inside = holds(t, p.centers[j]);
  float const overlap = inside ? overlap_with(t, load_box(p.boxes, at, p.xyxy).box) : 0.0f;
  float metric = inside ? metric_of(p, b, j, p.truths.label(b, owner), overlap) : 0.0f;
  if (metric != metric) metric = 0;  // a conflict may hand an anchor to a class whose score is NaN
  p.owner[at] = owner;
  p.metric[at] = metric;
  // Positive floats order as their bits do.
  if (overlap > 0.0f) atomicMax(p.best + 2 * row, __builtin_bit_cast(int, overlap));
  if (metric > 0.0f) atomicMax(p.best + 2 * row + 1, __builtin_bit_cast(int, metric));
  add_to(out.dynamic_k + row, 1);
}

__global__ void __launch_bounds__(kThreads) tal_write(Plan p, Outputs out) {
  int64_t const at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= p.B * p.A) return;
  int64_t const b = at / p.A;
  int const owner = p.owner[at];
  out.gt_index[at] = owner;
  out.iou[at] = out.score[at] = 0.0f;
  if (owner == kNobody) return;
  int const* const best = p.best + 2 * (b * p.G + owner);
  float const most_o = __builtin_bit_cast(float, best[0]), most_m = __builtin_bit_cast(float, best[1]);
  out.iou[at] = overlap_iou(p.truths.box(b, owner).box, load_box(p.boxes, at, p.xyxy).box);
  out.score[at] = p.metric[at] * most_o / (most_m + p.eps);
}

}  // namespace

int64_t tal_workspace_cuda(TalInputs const& in, Tal const& params) { return Plan(in, params, nullptr).bytes; }

void tal_assign_cuda(TalInputs const& in, Assigned const& out, View workspace, Tal const& params,
                     Context const& context) {
  Plan const p(in, params, workspace.data);
  if (p.B == 0) return;
  Outputs const to(out);
  LEYOLO_LAUNCH(tal_prepare, blocks(p.B * std::max({p.A, p.G, int64_t(1)})), kThreads, 0, context.stream, p, to);
  if (p.A == 0) return;
  if (p.G > 0) LEYOLO_LAUNCH(tal_match, unsigned(p.B * p.G), kMatch, 0, context.stream, p);
  unsigned const per_image = blocks(p.A);
  LEYOLO_LAUNCH(tal_resolve, unsigned(p.B * per_image), kThreads, 0, context.stream, p, per_image, to);
  LEYOLO_LAUNCH(tal_write, blocks(p.B * p.A), kThreads, 0, context.stream, p, to);
}

}  // namespace leyolo

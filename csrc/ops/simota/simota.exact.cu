#include "core/assignment.cuh"
#include "ops/simota/simota.h"
#include "ops/simota/simota_math.h"

namespace leyolo {

namespace {

constexpr int kPrepare = 256, kMatch = 128, kResolve = 256;
constexpr int kSums = 16;            // running sums of the class losses: the CPU's order of addition
constexpr int64_t kMostTiles = 256;  // of candidates per image: their offsets lie in shared memory
constexpr int kNoCandidate = -3;     // owner of what is none
constexpr float kUsualIou = 1.5f;    // rounding of tiny boxes can give more, and with it costs far below 0

bool in_order(double weight) { return weight >= 0 && weight <= 1000; }

// Of a candidate, indexed by its anchor.
struct ClassSum {
  float sum, low, objectness;
};

struct Plan {
  Truths truths;
  Floats logits, objectness, boxes, centers, strides;
  SimotaCost rule;
  float radius;
  float penalty_rules_out;  // costs below this are below all that carry the penalty; 0: nothing is known
  bool with_objectness, xyxy;
  int64_t B, A, C, G, topk;
  int64_t span, tiles;  // anchors of a tile, a multiple of kPrepare; tiles of an image, at least 1

  int* index;      // [B, A]: the anchors of a tile's candidates in order, from the tile's first place on
  int* found;      // [B, tiles]: how many these are
  int* owner;      // [B, A]
  ClassSum* sums;  // [B, A]
  int64_t bytes;

  Plan(SimotaInputs const& in, Simota const& params, void* workspace)
      : truths(in.gt, in.cls_logits.shape[2], params.fmt == "xyxy"),
        logits(in.cls_logits),
        objectness(in.obj_logits),
        boxes(in.boxes),
        centers(in.centers),
        strides(in.strides),
        rule(simota_rule(params)),
        radius(simota_radius(params)),
        // Without the penalty a cost is above -0.41 * iou_weight, up to rounding.
        penalty_rules_out(in_order(params.iou_weight) && in_order(params.cls_weight) ? 0.99f * rule.penalty : 0.0f),
        with_objectness(in.obj_logits),
        xyxy(truths.xyxy) {
    B = in.cls_logits.shape[0], A = in.cls_logits.shape[1], C = in.cls_logits.shape[2], G = truths.G;
    topk = params.topk;
    span = kPrepare * std::max<int64_t>(1, (A + kPrepare * kMostTiles - 1) / (kPrepare * kMostTiles));
    tiles = std::max<int64_t>(1, (A + span - 1) / span);
    Scratch memory(workspace);
    index = memory.take<int>(B * A);
    found = memory.take<int>(B * tiles);
    owner = memory.take<int>(B * A);
    sums = memory.take<ClassSum>(B * A);
    bytes = memory.used();
  }

  __device__ __forceinline__ float logit(int64_t b, int64_t j, int64_t c) const { return logits[(b * A + j) * C + c]; }
  __device__ __forceinline__ float half_side(int64_t j) const { return radius * strides[j]; }
};

struct Geometry {
  float iou;
  bool related;
};

__device__ __forceinline__ Geometry geometry(Plan const& p, int64_t b, int64_t j, CenteredBox const& t) {
  AreaBox<float> const box = load_box(p.boxes, b * p.A + j, p.xyxy).box;
  return {overlap_iou(t.box, box), bool(simota_related(p.centers[2 * j], p.centers[2 * j + 1], p.half_side(j), t.box,
                                                       t.cx, t.cy, p.rule.inside != 0))};
}

__device__ __forceinline__ float cost_of(Plan const& p, int64_t b, int64_t j, int label, Geometry const& pair) {
  ClassSum const s = p.sums[b * p.A + j];
  float const difference = class_difference(class_probability(p.logit(b, j, label), s.objectness, p.with_objectness));
  return simota_pair_cost(s.sum, s.low, difference, pair.iou, pair.related, p.rule);
}

// The class losses of one candidate, by kSums neighbouring lanes.
__device__ __forceinline__ ClassSum class_sum(Plan const& p, int64_t b, int64_t j, int lane) {
  float const objectness = p.with_objectness ? sigmoid_exact(p.objectness[b * p.A + j]) : 1.0f;
  CompensatedSum<float> mine = {};
  for (int64_t c = lane; c < p.C; c += kSums)
    mine.add(simota_class_term(p.logit(b, j, c), objectness, p.with_objectness));
  double const part = double(mine.sum) + double(mine.lost);
  double total = 0;
  for (int l = 0; l < kSums; ++l) total += __shfl_sync(kAllLanes, part, l, kSums);
  float const sum = float(total);
  return {sum, float(total - double(sum)), objectness};
}

// One block per tile: which anchors are candidates, a list of them in order, and their class losses, once for all
// ground truths. Background into all outputs.
__global__ void __launch_bounds__(kPrepare, 5) simota_prepare(Plan p, int64_t* num_fg) {
  LEYOLO_SHARED(float, fields, kBoxFields* kTruthTile);
  LEYOLO_SHARED(int, list, kPrepare);
  LEYOLO_SHARED(int, in_warp, kPrepare / kWarp);
  int64_t const b = blockIdx.x / p.tiles, tile = blockIdx.x % p.tiles, first = tile * p.span;
  int const n = p.truths.count(b), warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  TruthTile const truths{fields};
  int written = 0;
  for (int64_t base = first; base < min(first + p.span, p.A); base += kPrepare) {
    int64_t const j = base + threadIdx.x;
    bool const valid = j < p.A;
    float const x = valid ? p.centers[2 * j] : 0.0f, y = valid ? p.centers[2 * j + 1] : 0.0f;
    float const radius = valid ? p.half_side(j) : 0.0f;
    bool candidate = false;
    for (int g = 0; g < n; g += kTruthTile) {
      int const count = min(kTruthTile, n - g);
      __syncthreads();
      truths.fill(p.truths, b, g, count);
      __syncthreads();
      for (int i = 0; valid && !candidate && i < count; ++i) {
        CenteredBox const t = truths[i];
        candidate = simota_candidate(x, y, radius, t.box, t.cx, t.cy, p.rule.inside != 0);
      }
    }
    unsigned const votes = __ballot_sync(kAllLanes, candidate);
    if (lane == 0) in_warp[warp] = __popc(votes);
    __syncthreads();
    int before = 0, total = 0;
    for (int w = 0; w < kPrepare / kWarp; ++w) {
      before += w < warp ? in_warp[w] : 0;
      total += in_warp[w];
    }
    before += __popc(votes & ((1u << lane) - 1));
    if (candidate) {
      list[before] = threadIdx.x;
      p.index[b * p.A + first + written + before] = int(j);
    }
    if (valid) p.owner[b * p.A + j] = candidate ? kNobody : kNoCandidate;
    __syncthreads();
    int const team = threadIdx.x / kSums, member = threadIdx.x % kSums;
    int const rounds = (total + kPrepare / kSums - 1) / (kPrepare / kSums);
    for (int r = 0; r < rounds; ++r) {  // the same number for all: whole warps exchange their sums
      int const i = min(r * (kPrepare / kSums) + team, total - 1);
      int64_t const anchor = base + list[i];
      ClassSum const s = class_sum(p, b, anchor, member);
      if (member == 0 && r * (kPrepare / kSums) + team < total) p.sums[b * p.A + anchor] = s;
    }
    written += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    p.found[b * p.tiles + tile] = written;
    if (tile == 0 && num_fg) num_fg[b] = 0;
  }
}

// offsets[t] = candidates of the image before tile t, for t in [0, tiles]; by the first warp.
__device__ __forceinline__ void fill_tile_offsets(Plan const& p, int64_t b, int* offsets) {
  if (threadIdx.x < kWarp) {
    int carry = 0;
    for (int base = 0; base < p.tiles; base += kWarp) {
      int const t = base + threadIdx.x;
      int sum = t < p.tiles ? p.found[b * p.tiles + t] : 0;
      for (int step = 1; step < kWarp; step *= 2) {
        int const other = __shfl_up_sync(kAllLanes, sum, step);
        sum += int(threadIdx.x) >= step ? other : 0;
      }
      if (t < p.tiles) offsets[t + 1] = carry + sum;
      carry += __shfl_sync(kAllLanes, sum, kWarp - 1);
    }
    if (threadIdx.x == 0) offsets[0] = 0;
  }
  __syncthreads();
}

// The anchor of candidate i of the image.
__device__ __forceinline__ int anchor_of(Plan const& p, int64_t b, int const* offsets, int i) {
  int low = 0, high = int(p.tiles);  // offsets[low] <= i < offsets[high]
  while (high - low > 1) {
    int const middle = (low + high) / 2;
    (offsets[middle] <= i ? low : high) = middle;
  }
  return p.index[b * p.A + low * p.span + (i - offsets[low])];
}

// One block per ground truth: k from the largest overlaps, then the k cheapest candidates; equal ones in order. The
// cost of a candidate off the centre, most of them, is computed only where a cost at hand is not surely below its
// penalty.
__global__ void __launch_bounds__(kMatch, 8) simota_match(Plan p, int64_t* dynamic_k) {
  LEYOLO_DYNAMIC_SHARED(int, offsets);  // [tiles + 1]
  LEYOLO_SHARED(Key, slots, 2 * kMatch / kWarp);
  int64_t const b = blockIdx.x / p.G;
  int const g = int(blockIdx.x % p.G), label = p.truths.label(b, g);
  if (g >= p.truths.count(b) || label < 0) {
    if (threadIdx.x == 0) dynamic_k[blockIdx.x] = 0;
    return;
  }
  CenteredBox const target = p.truths.box(b, g);
  fill_tile_offsets(p, b, offsets);
  int const n = offsets[p.tiles];

  bool all = p.penalty_rules_out <= 0;
  auto const for_own = [&](auto&& f) {  // f(candidate, anchor, geometry)
    int tile = 0;
    for (int i = threadIdx.x; i < n; i += kMatch) {
      while (offsets[tile + 1] <= i) ++tile;
      int const j = p.index[b * p.A + tile * p.span + (i - offsets[tile])];
      f(i, j, geometry(p, b, j, target));
    }
  };
  auto const offer_cost = [&](int i, int j, Geometry const& pair, auto&& offer) {
    if (!all && !pair.related && pair.iou <= kUsualIou) return;
    float const cost = cost_of(p, b, j, label, pair);
    if (cost < __builtin_inff()) offer(key_of(cost, i));
  };
  auto const offer_costs = [&](auto&& offer) {
    for_own([&](int i, int j, Geometry const& pair) { offer_cost(i, j, pair, offer); });
  };
  Shortlist by_iou, by_cost;
  by_iou.clear(), by_cost.clear();
  for_own([&](int i, int j, Geometry const& pair) {
    by_iou.offer(key_of(-pair.iou, i));
    offer_cost(i, j, pair, [&](Key key) { by_cost.offer(key); });
  });
  int round = 0;
  float sum = 0;
  int64_t const most = min(p.topk, int64_t(n));
  for (int64_t r = 0; r < most; ++r)
    sum -= value_of(by_iou.take(slots, round, [&](auto&& offer) {
      for_own([&](int i, int, Geometry const& pair) { offer(key_of(-pair.iou, i)); });
    }));
  int64_t const k = whole_part(sum, max(most, int64_t(1)));
  if (threadIdx.x == 0) dynamic_k[blockIdx.x] = k;
  if (n == 0) return;
  Key last = 0;
  for (int64_t r = 0; r < k; ++r) {
    Key best = by_cost.take(slots, round, offer_costs);
    if (!all && (best == kNoKey || !(value_of(best) < p.penalty_rules_out))) {
      all = true;
      by_cost.clear();
      offer_costs([&](Key key) {
        if (key > last) by_cost.offer(key);
      });
      best = by_cost.take(slots, round, offer_costs);
    }
    if (best == kNoKey) return;
    if (threadIdx.x == 0) mark(p.owner + b * p.A + anchor_of(p, b, offsets, item_of(best)), g);
    last = best;
  }
}

// One thread per anchor; a warp gives each of its contested ones to the cheapest ground truth of all.
__global__ void __launch_bounds__(kResolve) simota_resolve(Plan p, int64_t blocks_per_image, Outputs out) {
  int64_t const b = blockIdx.x / blocks_per_image, j = blockIdx.x % blocks_per_image * kResolve + threadIdx.x;
  int const lane = threadIdx.x % kWarp;
  int owner = j < p.A ? p.owner[b * p.A + j] : kNoCandidate;
  for (unsigned contested = __ballot_sync(kAllLanes, owner == kSeveral); contested; contested &= contested - 1) {
    int const which = __ffs(contested) - 1, n = p.truths.count(b);
    Key best = kNoKey;
    for (int g = lane; g < n; g += kWarp) {
      int const label = p.truths.label(b, g);
      if (label < 0) continue;
      int64_t const anchor = j - lane + which;
      Key const key = key_of(cost_of(p, b, anchor, label, geometry(p, b, anchor, p.truths.box(b, g))), g);
      best = key < best ? key : best;
    }
    best = warp_smallest(best);
    if (lane == which) owner = item_of(best);
  }
  unsigned const foreground = __ballot_sync(kAllLanes, owner >= 0);
  if (lane == 0 && foreground) add_to(out.num_fg + b, __popc(foreground));
  if (j >= p.A) return;
  int64_t const at = b * p.A + j;
  out.gt_index[at] = owner >= 0 ? owner : -1;
  out.iou[at] = out.score[at] =
      owner >= 0 ? overlap_iou(p.truths.box(b, owner).box, load_box(p.boxes, at, p.xyxy).box) : 0.0f;
}

// One thread per pair.
__global__ void __launch_bounds__(kThreads) simota_pairs(Plan p, int64_t pairs, float* cost, float* iou) {
  int64_t const i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (i >= pairs) return;
  int64_t const j = i % p.A, row = i / p.A, b = row / p.G;
  int const g = int(row % p.G), label = g < p.truths.count(b) ? p.truths.label(b, g) : -1;
  bool const counts = label >= 0 && p.owner[b * p.A + j] != kNoCandidate;
  Geometry const pair = counts ? geometry(p, b, j, p.truths.box(b, g)) : Geometry{0.0f, false};
  cost[i] = counts ? cost_of(p, b, j, label, pair) : __builtin_inff();
  iou[i] = pair.iou;
}

}  // namespace

int64_t simota_workspace_cuda(SimotaInputs const& in, Simota const& params) { return Plan(in, params, nullptr).bytes; }

void simota_assign_cuda(SimotaInputs const& in, Assigned const& out, View workspace, Simota const& params,
                        Context const& context) {
  Plan const p(in, params, workspace.data);
  if (p.B == 0) return;
  Outputs const to(out);
  LEYOLO_LAUNCH(simota_prepare, unsigned(p.B * p.tiles), kPrepare, 0, context.stream, p, to.num_fg);
  if (p.G > 0)
    LEYOLO_LAUNCH(simota_match, unsigned(p.B * p.G), kMatch, size_t(p.tiles + 1) * sizeof(int), context.stream, p,
                  to.dynamic_k);
  if (p.A == 0) return;
  unsigned const per_image = blocks(p.A, kResolve);
  LEYOLO_LAUNCH(simota_resolve, unsigned(p.B * per_image), kResolve, 0, context.stream, p, per_image, to);
}

void simota_cost_cuda(SimotaInputs const& in, View cost, View iou, View workspace, Simota const& params,
                      Context const& context) {
  Plan const p(in, params, workspace.data);
  if (cost.numel() == 0) return;
  LEYOLO_LAUNCH(simota_prepare, unsigned(p.B * p.tiles), kPrepare, 0, context.stream, p, nullptr);
  LEYOLO_LAUNCH(simota_pairs, blocks(cost.numel()), kThreads, 0, context.stream, p, cost.numel(), cost.as<float>(),
                iou.as<float>());
}

}  // namespace leyolo

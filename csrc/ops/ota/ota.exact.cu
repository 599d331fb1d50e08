#include "core/assignment.cuh"
#include "ops/ota/ota.h"
#include "ops/ota/ota_args.h"

namespace leyolo {

namespace {

constexpr int kCosts = 128, kSupply = 128, kColumns = 256;
constexpr int64_t kInCache = int64_t(32) << 20;  // bytes of costs worked on at once: what the second cache holds
constexpr int kChunkAnchors = kOtaChunk * kTile;

// A group of images at a time. The costs lie as on the CPU: [tiles, n + 1, kTile].
struct Plan {
  Truths truths;
  Floats logits, boxes, centers, strides;
  double start, penalty;  // in units of eps, as all potentials and costs are
  float scale;
  bool xyxy;
  int64_t B, A, C, G, topk, rows, tiles, chunks, at_once;
  int64_t first = 0;  // image of the group

  float* costs;                // [at_once, tiles, rows, kTile]
  float* v;                    // [at_once, tiles, kTile]
  double* u;                   // [at_once, rows]
  float *near, *far, *log_mu;  // [at_once, rows]
  double* partial;             // [at_once, chunks, rows]
  int64_t bytes;

  Plan(OtaInputs const& in, Ota const& params, void* workspace)
      : truths(in.gt, in.cls_logits.shape[2], params.fmt == "xyxy"),
        logits(in.cls_logits),
        boxes(in.boxes),
        centers(in.centers),
        strides(in.strides),
        start(1 / params.eps),
        penalty(kOtaPenalty / params.eps),
        scale(float(1 / params.eps)),
        xyxy(truths.xyxy) {
    B = in.cls_logits.shape[0], A = in.cls_logits.shape[1], C = in.cls_logits.shape[2], G = truths.G;
    topk = std::min(params.topk, A), rows = G + 1;
    tiles = padded(A) / kTile, chunks = (tiles + kOtaChunk - 1) / kOtaChunk;
    int64_t const of_one = tiles * rows * kTile * int64_t(sizeof(float));
    at_once = std::clamp<int64_t>(kInCache / std::max<int64_t>(of_one, 1), 1, std::max<int64_t>(B, 1));
    Scratch memory(workspace);
    costs = memory.take<float>(at_once * tiles * rows * kTile);
    v = memory.take<float>(at_once * tiles * kTile);
    u = memory.take<double>(at_once * rows);
    near = memory.take<float>(at_once * rows);
    far = memory.take<float>(at_once * rows);
    log_mu = memory.take<float>(at_once * rows);
    partial = memory.take<double>(at_once * chunks * rows);
    bytes = memory.used();
  }

  __device__ __forceinline__ float* costs_of(int64_t i) const { return costs + i * tiles * rows * kTile; }
  __device__ __forceinline__ float* v_of(int64_t i) const { return v + i * tiles * kTile; }
  __device__ __forceinline__ bool related(int64_t j, CenteredBox const& t) const {
    return ota_related(centers[2 * j], centers[2 * j + 1], kOtaRadii * strides[j], t.box, t.cx, t.cy);
  }
};

// One thread per anchor; its sum of losses by kTile neighbouring lanes, in the CPU's order.
__global__ void __launch_bounds__(kCosts, 8) ota_costs(Plan p, int64_t blocks_per_image) {
  LEYOLO_SHARED(float, fields, kBoxFields* kTruthTile);
  LEYOLO_SHARED(int, labels, kTruthTile);
  LEYOLO_SHARED(float, sums, kCosts);
  int64_t const i = blockIdx.x / blocks_per_image, b = p.first + i;
  int64_t const base = blockIdx.x % blocks_per_image * kCosts, j = base + threadIdx.x;
  int const n = p.truths.count(b);
  if (n == 0) return;
  int const team = threadIdx.x / kTile, member = threadIdx.x % kTile;
  for (int r = 0; r < kTile; ++r) {
    int const mine = r * (kCosts / kTile) + team;
    int64_t const anchor = min(base + mine, p.A - 1);
    float part = 0;
    for (int64_t c = member; c < p.C; c += kTile) part = part + focal(p.logits[(b * p.A + anchor) * p.C + c]).negative;
    double total = 0;
    for (int l = 0; l < kTile; ++l) total += double(__shfl_sync(kAllLanes, part, l, kTile));
    if (member == 0) sums[mine] = float(total);
  }
  bool const valid = j < p.A, stored = j < p.tiles * kTile;
  int64_t const at = b * p.A + min(j, p.A - 1);
  AreaBox<float> const box = load_box(p.boxes, at, p.xyxy).box;
  float* const to = p.costs_of(i) + j / kTile * (n + 1) * kTile + j % kTile;
  TruthTile const truths{fields};
  for (int g = 0; g < n; g += kTruthTile) {
    int const count = min(kTruthTile, n - g);
    __syncthreads();
    truths.fill(p.truths, b, g, count);
    for (int k = threadIdx.x; k < count; k += kCosts) labels[k] = p.truths.label(b, g + k);
    __syncthreads();
    for (int k = 0; valid && k < count; ++k) {
      CenteredBox const t = truths[k];
      float cost = __builtin_inff();
      if (labels[k] >= 0)
        cost =
            ota_pair_cost(sums[threadIdx.x], focal(p.logits[at * p.C + labels[k]]), overlap_iou(t.box, box), p.scale);
      to[(g + k) * kTile] = ota_pack(cost, p.related(j, t));
    }
  }
  float const background = sums[threadIdx.x] * p.scale;
  if (valid) to[n * kTile] = background < __builtin_inff() ? background : 0.0f;
  if (stored && !valid)
    for (int k = 0; k <= n; ++k) to[k * kTile] = 0.0f;
}

// One block per ground truth: its supply, from the largest overlaps with related anchors.
__global__ void __launch_bounds__(kSupply, 8) ota_supply(Plan p, int64_t* dynamic_k) {
  LEYOLO_SHARED(Key, slots, 2 * kSupply / kWarp);
  int64_t const i = blockIdx.x / p.G, b = p.first + i;
  int const g = int(blockIdx.x % p.G);
  int64_t* const to = dynamic_k + b * p.G + g;
  if (g >= p.truths.count(b) || p.truths.label(b, g) < 0 || p.A == 0) {
    if (threadIdx.x == 0) *to = 0;
    if (threadIdx.x == 0) p.log_mu[i * p.rows + g] = 0;
    return;
  }
  CenteredBox const target = p.truths.box(b, g);
  auto const for_own = [&](auto&& offer) {
    for (int64_t j = threadIdx.x; j < p.A; j += kSupply) {
      float value = 0;
      if (p.related(j, target)) value = -overlap_iou(target.box, load_box(p.boxes, b * p.A + j, p.xyxy).box);
      offer(key_of(value, int(j)));
    }
  };
  Shortlist list;
  list.clear();
  for_own([&](Key key) { list.offer(key); });
  int round = 0;
  float sum = 0;
  for (int64_t r = 0; r < p.topk; ++r) sum -= value_of(list.take(slots, round, for_own));
  if (threadIdx.x > 0) return;
  int64_t const mu = whole_part(sum, p.A);
  *to = mu;
  p.log_mu[i * p.rows + g] = ota_log_supply(mu);
}

// One warp per image: the background's supply, and all potentials as they begin.
__global__ void __launch_bounds__(kWarp) ota_start(Plan p, Outputs out) {
  int64_t const i = blockIdx.x, b = p.first + i;
  int const n = p.truths.count(b);
  if (threadIdx.x == 0) {
    int64_t left = p.A;
    for (int g = 0; g < n; ++g) left -= out.dynamic_k[b * p.G + g];
    p.log_mu[i * p.rows + n] = ota_log_supply(left > 0 ? left : 0);
    out.num_fg[b] = 0;
  }
  for (int row = threadIdx.x; row <= n; row += kWarp) {
    int64_t const at = i * p.rows + row;
    p.u[at] = p.start;
    p.near[at] = float(p.start);
    p.far[at] = float(p.start - p.penalty);
  }
}

// One block per chunk of anchors: renews their v and adds up the plan (u old, v new) of each row over them.
__global__ void __launch_bounds__(kColumns, 4) ota_columns(Plan p) {
  LEYOLO_SHARED(float, best, kChunkAnchors);
  LEYOLO_SHARED(float, share, kChunkAnchors);
  int64_t const i = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks;
  int const n = p.truths.count(p.first + i), rows = n + 1;
  if (n == 0) return;
  float const *const near = p.near + i * p.rows, *const far = p.far + i * p.rows;
  int const tiles = int(min(int64_t(kOtaChunk), p.tiles - chunk * kOtaChunk));
  float const* const costs = p.costs_of(i) + chunk * kOtaChunk * rows * kTile;
  for (int k = threadIdx.x; k < tiles * kTile; k += kColumns) {
    int64_t const j = chunk * kChunkAnchors + k;
    float const* const column = costs + k / kTile * rows * kTile + k % kTile;
    float most = -__builtin_inff(), sum = 0;
    for (int row = 0; row < rows; ++row) most = max_of(most, ota_gain(column[row * kTile], near[row], far[row]));
    for (int row = 0; row < rows; ++row) {
      float const x = ota_gain(column[row * kTile], near[row], far[row]) - most;
      if (x > kNegligible) sum = sum + exp_exact(x);
    }
    bool const valid = j < p.A;
    p.v_of(i)[j] = valid ? -(most + log_exact(sum)) : -__builtin_inff();
    best[k] = most;
    share[k] = valid ? 1.0f / sum : 0.0f;
  }
  __syncthreads();
  // kTile running sums for each row, over the tiles in order; then these in order.
  for (int base = 0; base < rows * kTile; base += kColumns) {
    int const at = base + threadIdx.x, row = at / kTile, lane = at % kTile;
    float sum = 0;
    if (row < rows) {
      float const a = near[row], f = far[row];
      constexpr int kAhead = 8;  // loads under way
      for (int t = 0; t < tiles; t += kAhead) {
        float packed[kAhead];
        for (int s = 0; s < kAhead; ++s) packed[s] = t + s < tiles ? costs[(t + s) * rows * kTile + at] : 0.0f;
        for (int s = 0; s < kAhead; ++s) {
          if (t + s >= tiles) break;
          float const x = ota_gain(packed[s], a, f) - best[(t + s) * kTile + lane];
          if (x > kNegligible) sum = sum + exp_exact(x) * share[(t + s) * kTile + lane];
        }
      }
    }
    double total = 0;
    for (int l = 0; l < kTile; ++l) total += double(__shfl_sync(kAllLanes, sum, l, kTile));
    if (row < rows && lane == 0) p.partial[(i * p.chunks + chunk) * p.rows + row] = total;
  }
}

// Of the row, by a whole warp.
__device__ OtaTop row_top(Plan const& p, int64_t i, int rows, int row) {
  float const lowest = -__builtin_inff();
  float near = lowest, far = lowest;
  for (int64_t j = threadIdx.x; j < p.tiles * kTile; j += kWarp) {
    float const packed = p.costs_of(i)[(j / kTile * rows + row) * kTile + j % kTile], v = p.v_of(i)[j];
    near = max_of(near, ota_gain(packed, v, lowest));
    far = max_of(far, ota_gain(packed, lowest, v));
  }
  for (int lane = kWarp / 2; lane > 0; lane /= 2) {
    near = max_of(near, __shfl_xor_sync(kAllLanes, near, lane));
    far = max_of(far, __shfl_xor_sync(kAllLanes, far, lane));
  }
  return ota_top(near, far, p.penalty);
}

// The logarithm of the sum of e^(v - cost) over the row: where nothing is left of it next to the others in its columns.
__device__ double log_row_sum(Plan const& p, int64_t i, int rows, int row) {
  OtaTop const top = row_top(p, i, rows, row);
  if (!(top.value > -HUGE_VAL && top.value < HUGE_VAL)) return top.value;
  int const half = threadIdx.x / kTile, lane = threadIdx.x % kTile;
  float sum = 0;
  for (int64_t t = 0; t < p.tiles; t += 2) {  // a tile by each half of the warp, added in order
    float e = 0;
    if (t + half < p.tiles) {
      float const v = p.v_of(i)[(t + half) * kTile + lane];
      float const x = ota_gain(p.costs_of(i)[((t + half) * rows + row) * kTile + lane], top.near + v, top.far + v);
      if (x > kNegligible) e = exp_exact(x);
    }
    float const second = __shfl_down_sync(kAllLanes, e, kTile);
    sum = (sum + e) + second;
  }
  double total = 0;
  for (int l = 0; l < kTile; ++l) total += double(__shfl_sync(kAllLanes, sum, l));
  return top.value + double(log_exact(float(total)));
}

// One warp per row: renews u.
__global__ void __launch_bounds__(kWarp) ota_rows(Plan p) {
  int64_t const i = blockIdx.x / p.rows;
  int const row = int(blockIdx.x % p.rows), n = p.truths.count(p.first + i);
  if (n == 0 || row > n) return;
  int64_t const at = i * p.rows + row;
  double const old = p.u[at], log_mu = double(p.log_mu[at]);  // read by all before one writes
  double sum = 0;
  for (int64_t base = 0; base < p.chunks; base += kWarp) {
    int64_t const chunk = base + threadIdx.x;
    double const mine = chunk < p.chunks ? p.partial[(i * p.chunks + chunk) * p.rows + row] : 0.0;
    for (int l = 0; l < kWarp; ++l) sum += __shfl_sync(kAllLanes, mine, l);
  }
  double const change =
      sum > kOtaVanished ? old + log_mu - double(log_exact(float(sum))) : log_mu - log_row_sum(p, i, n + 1, row);
  if (threadIdx.x > 0) return;
  double const u = change > -HUGE_VAL && change < HUGE_VAL ? change : old;
  p.u[at] = u;
  p.near[at] = float(u);
  p.far[at] = float(u - p.penalty);
}

// Every row against its own maximum, where its potential drops out.
__global__ void __launch_bounds__(kWarp) ota_tops(Plan p) {
  int64_t const i = blockIdx.x / p.rows;
  int const row = int(blockIdx.x % p.rows), n = p.truths.count(p.first + i);
  if (n == 0 || row > n) return;
  OtaTop const top = row_top(p, i, n + 1, row);
  if (threadIdx.x > 0) return;
  p.near[i * p.rows + row] = top.near;
  p.far[i * p.rows + row] = top.far;
}

__global__ void __launch_bounds__(kThreads) ota_decide(Plan p, int64_t blocks_per_image, Outputs out) {
  int64_t const i = blockIdx.x / blocks_per_image, j = blockIdx.x % blocks_per_image * kThreads + threadIdx.x;
  int64_t const b = p.first + i, at = b * p.A + j;
  int const n = p.truths.count(b), rows = n + 1;
  int owner = n;
  float best = -__builtin_inff();
  for (int row = 0; n > 0 && j < p.A && row < rows; ++row) {
    float const packed = p.costs_of(i)[(j / kTile * rows + row) * kTile + j % kTile];
    float const x = ota_below_top(packed, p.v_of(i)[j], p.near[i * p.rows + row], p.far[i * p.rows + row]);
    if (x > best) {
      best = x;
      owner = row;
    }
  }
  bool const positive = owner < n;
  unsigned const foreground = __ballot_sync(kAllLanes, positive);
  if (threadIdx.x % kWarp == 0 && foreground) add_to(out.num_fg + b, __popc(foreground));
  if (j >= p.A) return;
  out.gt_index[at] = positive ? owner : -1;
  out.iou[at] = out.score[at] =
      positive ? overlap_iou(p.truths.box(b, owner).box, load_box(p.boxes, at, p.xyxy).box) : 0.0f;
}

}  // namespace

int64_t ota_workspace_cuda(OtaInputs const& in, Ota const& params) { return Plan(in, params, nullptr).bytes; }

void ota_assign_cuda(OtaInputs const& in, Assigned const& out, View workspace, Ota const& params,
                     Context const& context) {
  Plan p(in, params, workspace.data);
  Outputs const to(out);
  for (; p.first < p.B; p.first += p.at_once) {
    int64_t const images = std::min(p.at_once, p.B - p.first);
    unsigned const all_rows = unsigned(images * p.rows), of_costs = blocks(p.A, kCosts), of_image = blocks(p.A);
    if (p.G > 0) LEYOLO_LAUNCH(ota_supply, unsigned(images * p.G), kSupply, 0, context.stream, p, to.dynamic_k);
    LEYOLO_LAUNCH(ota_start, unsigned(images), kWarp, 0, context.stream, p, to);
    if (p.A == 0) continue;
    if (p.G > 0) {
      LEYOLO_LAUNCH(ota_costs, unsigned(images * of_costs), kCosts, 0, context.stream, p, of_costs);
      for (int64_t round = 0; round < params.iterations; ++round) {
        LEYOLO_LAUNCH(ota_columns, unsigned(images * p.chunks), kColumns, 0, context.stream, p);
        LEYOLO_LAUNCH(ota_rows, all_rows, kWarp, 0, context.stream, p);
      }
      LEYOLO_LAUNCH(ota_tops, all_rows, kWarp, 0, context.stream, p);
    }
    LEYOLO_LAUNCH(ota_decide, unsigned(images * of_image), kThreads, 0, context.stream, p, of_image, to);
  }
}

}  // namespace leyolo

// Three launches: all class logits are read once and candidates counted; per image the counts are summed (and, if there
// are too many, the cut is found); then scores, labels and boxes of the candidates are written, each to its place.
#include "ops/detect_decode/detect_decode.cuh"

namespace leyolo {

namespace {

constexpr int kGroup = 8, kWarps = kThreads / 32, kPerWarp = int(kDetectChunk) / kWarps;

template <class T, int n>
struct alignas(n * sizeof(T)) Values {
  T value[n];
};

// A group of 8 lanes reads the class logits of an anchor, n at a time.
template <bool yolox, bool multi, int n, class T>
__global__ void __launch_bounds__(kThreads) detect_scan_kernel(DetectHead<T> d) {
  LEYOLO_SHARED(int, total, 1);
  int64_t const image = int64_t(blockIdx.x) / d.chunks, first = int64_t(blockIdx.x) % d.chunks * kDetectChunk;
  int const lane = threadIdx.x % kGroup;
  if (threadIdx.x == 0) *total = 0;
  __syncthreads();
  for (int at = threadIdx.x / kGroup; at < kDetectChunk; at += kThreads / kGroup) {
    int64_t const anchor = image * d.anchors + first + at;
    bool const there = first + at < d.anchors;
    T const* const row = d.row(there ? anchor : image * d.anchors);
    bool const offers = there && (!yolox || float(row[d.first_class - 1]) >= d.limits.logit);
    float const objectness = multi && offers ? detect_objectness<yolox>(d, row) : 1.0f;
    int best = -1, count = 0;
    float value = 0;
    for (int c = lane * n; offers && c < d.classes; c += kGroup * n) {
      Values<T, n> const some = *reinterpret_cast<Values<T, n> const*>(row + d.first_class + c);
#pragma unroll
      for (int k = 0; k < n; ++k) {
        float const logit = float(some.value[k]);
        if (!(logit >= d.limits.logit)) continue;
        if constexpr (multi)
          count += detect_rank<yolox, T>(objectness, logit) >= d.limits.rank;
        else if (best < 0 || logit > value)
          best = c + k, value = logit;
      }
    }
    if constexpr (multi) {
      for (int o = kGroup / 2; o > 0; o /= 2) count += __shfl_xor_sync(kAllLanes, count, o);
    } else if (__any_sync(kAllLanes, best >= 0)) {
      for (int o = kGroup / 2; o > 0; o /= 2) {
        int const other = __shfl_xor_sync(kAllLanes, best, o);
        float const theirs = __shfl_xor_sync(kAllLanes, value, o);
        bool const wins = other >= 0 && (best < 0 || theirs > value || (theirs == value && other < best));
        best = wins ? other : best, value = wins ? theirs : value;
      }
      if (lane == 0 && best >= 0) {
        float const rank = detect_rank<yolox, T>(detect_objectness<yolox>(d, row), value);
        count = rank >= d.limits.rank;
        d.memory.best[anchor] = best, d.memory.rank[anchor] = rank;
      }
    }
    if (lane == 0 && there) d.memory.candidates[anchor] = count;
    if (lane == 0 && count) atomicAdd(total, count);
  }
  __syncthreads();
  if (threadIdx.x == 0) d.memory.counts[blockIdx.x] = *total;
}

// One side of a box by 16 lanes, a bin each: the sums of the CPU's vectors of 16.
template <class T>
__device__ __forceinline__ float side_distance(T const* logits, int bins) {
  int const lane = threadIdx.x % 16;
  float top = -__builtin_inff();
  for (int i = lane; i < bins; i += 16) {
    float const v = float(logits[i]);
    top = v > top ? v : top;
  }
  for (int o = 8; o > 0; o /= 2) {
    float const other = __shfl_xor_sync(kAllLanes, top, o);
    top = other > top ? other : top;
  }
  float total = 0, weighted = 0;
  for (int i = lane; i < bins; i += 16) {
    float const x = float(logits[i]) - top, e = x == x ? exp_of_negative<float, int>(x) : x;
    total += e, weighted += e * float(i);
  }
  for (int o = 8; o > 0; o /= 2)
    total += __shfl_xor_sync(kAllLanes, total, o), weighted += __shfl_xor_sync(kAllLanes, weighted, o);
  return weighted / total;
}

// By a whole warp, known to all its lanes.
template <bool yolox, class T>
__device__ __forceinline__ Box<float> anchor_box(DetectHead<T> const& d, T const* row, float const* center,
                                                 float stride) {
  if constexpr (yolox) return yolox_box(float(row[0]), float(row[1]), float(row[2]), float(row[3]), center, stride);
  int const half = threadIdx.x % 32 / 16;
  float const near = side_distance(row + half * d.reg_max, d.reg_max),
              far = side_distance(row + (2 + half) * d.reg_max, d.reg_max);
  float const distances[] = {__shfl_sync(kAllLanes, near, 0), __shfl_sync(kAllLanes, near, 16),
                             __shfl_sync(kAllLanes, far, 0), __shfl_sync(kAllLanes, far, 16)};
  return box_around(distances, center, stride);
}

struct Written {
  float const *centers, *strides;
  float *boxes, *scores;
  int64_t* labels;
};

// How many candidates lie above the cut and how many at it.
struct Tally {
  int above, at;
};
__device__ __forceinline__ bool is_above(float rank, uint32_t cut) { return cut == 0 || order_key(rank) > cut; }

template <bool yolox, bool multi, class T>
__global__ void __launch_bounds__(kThreads) detect_write_kernel(DetectHead<T> d, Written to) {
  LEYOLO_SHARED(Tally, before, kDetectChunk);  // of an anchor; then of all anchors before it
  if (d.memory.counts[blockIdx.x] == 0) return;
  int64_t const image = int64_t(blockIdx.x) / d.chunks, first = int64_t(blockIdx.x) % d.chunks * kDetectChunk;
  int64_t const ties = d.memory.ties[blockIdx.x], offset = image * d.capacity + d.memory.offsets[blockIdx.x];
  uint32_t const cut = d.memory.cut[image];
  int const lane = threadIdx.x % 32, warp = threadIdx.x / 32, end = int(min_of(kDetectChunk, d.anchors - first));
  // The warp's own anchors: lane i knows about number i.
  int const mine = warp * kPerWarp + lane;
  bool const has = lane < kPerWarp && mine < end && d.memory.candidates[image * d.anchors + first + mine];
  unsigned const occupied = __ballot_sync(kAllLanes, has);
  Tally tally{0, 0};
  auto const count = [&](Tally& t, float rank) {
    bool const above = is_above(rank, cut);
    t.above += above, t.at += !above && order_key(rank) == cut;
  };
  if constexpr (!multi) {
    if (has) count(tally, d.memory.rank[image * d.anchors + first + mine]);
  } else {
    for (unsigned left = occupied; left; left &= left - 1) {
      int const i = __ffs(int(left)) - 1;
      int64_t const anchor = first + warp * kPerWarp + i;
      Tally t{0, 0};
      detect_each<yolox, multi>(d, image, anchor, anchor + 1, [&](float rank) { count(t, rank); });
      t = {detect_warp_sum(t.above), detect_warp_sum(t.at)};
      if (lane == i) tally = t;
    }
  }
  if (lane < kPerWarp) before[mine] = tally;
  __syncthreads();
  if (warp == 0) {
    constexpr int each = int(kDetectChunk) / 32;
    Tally sum{0, 0};
    for (int i = lane * each; i < (lane + 1) * each; ++i) sum.above += before[i].above, sum.at += before[i].at;
    Tally run{detect_warp_scan(sum.above) - sum.above, detect_warp_scan(sum.at) - sum.at};
    for (int i = lane * each; i < (lane + 1) * each; ++i) {
      Tally const own = before[i];
      before[i] = run;
      run.above += own.above, run.at += own.at;
    }
  }
  __syncthreads();
  for (unsigned left = occupied; left; left &= left - 1) {
    int const i = warp * kPerWarp + __ffs(int(left)) - 1;
    int64_t const anchor = image * d.anchors + first + i;
    T const* const row = d.row(anchor);
    Box<float> const box = anchor_box<yolox>(d, row, to.centers + 2 * (first + i), to.strides[first + i]);
    float const objectness = multi ? detect_objectness<yolox>(d, row) : 1.0f;
    Tally run = before[i];
    for (int c = lane; c - lane < (multi ? d.classes : 1); c += 32) {
      float rank = 0;
      bool is = lane == 0;
      if constexpr (multi)
        is = detect_offers<yolox>(d, row, objectness, c, rank);
      else
        rank = d.memory.rank[anchor];
      bool const above = is && is_above(rank, cut), at = is && !above && order_key(rank) == cut;
      unsigned const all_above = __ballot_sync(kAllLanes, above), all_at = __ballot_sync(kAllLanes, at);
      unsigned const lower = (1u << lane) - 1;
      int64_t const my_above = run.above + __popc(all_above & lower), my_at = run.at + __popc(all_at & lower);
      if (above || (at && my_at < ties)) {
        int64_t const k = offset + my_above + min_of(my_at, ties);
        to.scores[k] = yolox ? rank : sigmoid_exact(rank);
        to.labels[k] = multi ? c : d.memory.best[anchor];
        float* const p = to.boxes + 4 * k;
        p[0] = box.x1, p[1] = box.y1, p[2] = box.x2, p[3] = box.y2;
      }
      run.above += __popc(all_above), run.at += __popc(all_at);
    }
  }
}

template <bool yolox, bool multi, class T>
void run(DetectHead<T> const& d, View counts, Written const& to, Context const& context) {
  unsigned const blocks = unsigned(d.batch * d.chunks);
  constexpr int n = 16 / int(sizeof(T));
  bool const vectors = d.classes % n == 0 && d.channels % n == 0 && d.first_class % n == 0 &&
                       reinterpret_cast<uintptr_t>(d.logits) % 16 == 0;
  if (blocks) {
    if (vectors)
      LEYOLO_LAUNCH((detect_scan_kernel<yolox, multi, n, T>), blocks, kThreads, 0, context.stream, d);
    else
      LEYOLO_LAUNCH((detect_scan_kernel<yolox, multi, 1, T>), blocks, kThreads, 0, context.stream, d);
  }
  detect_offsets(d, counts, yolox, multi, context);
  if (blocks) LEYOLO_LAUNCH((detect_write_kernel<yolox, multi, T>), blocks, kThreads, 0, context.stream, d, to);
}

template <class T>
void decode(View logits, View centers, View strides, DetectOutputs const& out, View workspace,
            DetectDecode const& params, Context const& context) {
  int64_t const batch = logits.shape[0], anchors = logits.shape[1], channels = logits.shape[2];
  bool const yolox = params.head == BoxHead::yolox;
  int const first_class = yolox ? 5 : int(4 * params.reg_max);
  DetectHead<T> const d{logits.as<T>(),
                        batch,
                        anchors,
                        detect_chunks(anchors),
                        int(channels),
                        first_class,
                        int(channels) - first_class,
                        int(params.reg_max),
                        detect_limits(params),
                        out.boxes.shape[1],
                        detect_memory(batch, anchors, workspace.data)};
  Written const to{centers.as<float>(), strides.as<float>(), out.boxes.as<float>(), out.scores.as<float>(),
                   out.labels.as<int64_t>()};
  if (yolox)
    params.multi_label ? run<true, true>(d, out.counts, to, context) : run<true, false>(d, out.counts, to, context);
  else
    params.multi_label ? run<false, true>(d, out.counts, to, context) : run<false, false>(d, out.counts, to, context);
}

}  // namespace

void detect_decode_cuda(View logits, View centers, View strides, DetectOutputs const& out, View workspace,
                        DetectDecode const& params, Context const& context) {
  check(logits.shape[2] <= 1 << 23, "detect_decode: at most 2^23 channels on CUDA, got ", logits);
  if (logits.shape[0] == 0) return;
  switch (logits.dtype) {
    case DType::f16: return decode<__half>(logits, centers, strides, out, workspace, params, context);
    case DType::bf16: return decode<__nv_bfloat16>(logits, centers, strides, out, workspace, params, context);
    default: return decode<float>(logits, centers, strides, out, workspace, params, context);
  }
}

}  // namespace leyolo

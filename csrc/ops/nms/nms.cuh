// What the kernels of NMS share: the order of the boxes, an image's part of the workspace, sorting and the sweep.
#pragma once

#include "core/cuda.cuh"
#include "ops/nms/nms.h"
#include "ops/nms/nms_math.h"

namespace leyolo {

template <class T>
using nms_float = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Ascending keys: descending scores, equal ones by ascending index. No two boxes have equal keys.
template <class A>
struct NmsKey;
template <>
struct NmsKey<float> {
  unsigned long long bits;

  NmsKey() = default;
  __device__ NmsKey(float score, int64_t index) : bits(score_key(score) << 32 | uint32_t(index)) {}
  __device__ int64_t index() const { return int64_t(bits & 0xffffffffu); }
  __device__ bool operator<(NmsKey const& other) const { return bits < other.bits; }
};
template <>
struct NmsKey<double> {
  unsigned long long score;
  int64_t at;

  NmsKey() = default;
  __device__ NmsKey(double s, int64_t index) : score(score_key(s)), at(index) {}
  __device__ int64_t index() const { return at; }
  __device__ bool operator<(NmsKey const& other) const {
    return score < other.score || (score == other.score && at < other.at);
  }
};

template <class A>
struct NmsInputs {
  void const *boxes, *scores;
  int64_t const *labels, *counts;  // or null
  int64_t n, max_det;
  A iou_threshold;
  double score_threshold;
  int64_t *indices, *kept;
};

template <class A>
NmsInputs<A> nms_inputs(View boxes, View scores, View labels, View counts, View indices, View kept, Nms const& params) {
  return {boxes.data,
          scores.data,
          labels.as<int64_t>(),
          counts.as<int64_t>(),
          boxes.shape[1],
          indices.shape[1],
          nms_threshold(params.iou_threshold, A()),
          params.score_threshold,
          indices.as<int64_t>(),
          kept.as<int64_t>()};
}

// An image's part of the workspace: at most 65 n + 16 bytes (37 n + 16 for floats), less than the CPU twin takes.
template <class A>
struct NmsMemory {
  NmsKey<A>* keys;         // [n]
  int64_t* label;          // of the kept boxes, [n]
  A* coordinates[5];       // x1, y1, x2, y2, area of the kept boxes, [n] each
  unsigned char* dropped;  // [n] in sorted order; only where many blocks sweep
  int64_t* state;          // [2]: boxes that take part; kept ones before the present round

  __device__ NmsMemory(char* p, int64_t n) {
    keys = reinterpret_cast<NmsKey<A>*>(p), p += n * int64_t(sizeof(NmsKey<A>));
    state = reinterpret_cast<int64_t*>(p), p += 16;
    label = reinterpret_cast<int64_t*>(p), p += 8 * n;
    for (A*& c : coordinates) c = reinterpret_cast<A*>(p), p += n * int64_t(sizeof(A));
    dropped = reinterpret_cast<unsigned char*>(p);
  }
};

constexpr int kNmsTile = 4096;   // keys (of floats) that are sorted in shared memory
constexpr int kNmsChunk = 64;    // boxes that are decided together
constexpr int kNmsRound = 1024;  // boxes that one block decides before all blocks drop what they overlap

template <class A>
constexpr int nms_tile = kNmsTile * 8 / int(sizeof(NmsKey<A>));

// The bitonic network in which every exchange puts the smaller key first, so that nothing behind the last key is ever
// looked at. A step has pairs inside blocks of `size`: each key with its mirror image, or with the one `size` / 2 on.
template <class I>
__device__ __forceinline__ I nms_pairs(I count, I size) {
  I const rest = count & (size - 1);
  return (count - rest) / 2 + min_of(rest, size / 2);
}
template <class K, class I>
__device__ __forceinline__ void nms_exchange(K* keys, I count, I pair, I size, bool mirror) {
  I const inside = pair & (size / 2 - 1), block = (pair - inside) * 2;
  I const i = block + inside, j = mirror ? block + size - 1 - inside : i + size / 2;
  if (j >= count) return;
  K const a = keys[i], b = keys[j];
  if (b < a) keys[i] = b, keys[j] = a;
}

// Sorts `count` keys in shared memory; with `merging` only the last steps of a merge, from blocks of `tile` on. Pairs
// in blocks of 64 stay with one warp from step to step.
template <class K>
__device__ __forceinline__ void nms_sort_shared(K* keys, int count, bool merging, int tile) {
  bool wide = true;
  auto const step = [&](int size, bool mirror) {
    wide || size > 64 ? __syncthreads() : __syncwarp();
    wide = size > 64;
    int const pairs = nms_pairs(count, size);
    for (int t = threadIdx.x; t < pairs; t += blockDim.x) nms_exchange(keys, count, t, size, mirror);
  };
  if (merging) {
    for (int size = tile; size > 1; size /= 2) step(size, false);
  } else {
    for (int sorted = 1; sorted < count; sorted *= 2) {
      step(2 * sorted, true);
      for (int size = sorted; size > 1; size /= 2) step(size, false);
    }
  }
  __syncthreads();
}

template <class A>
__device__ __forceinline__ void nms_sort_tile(NmsKey<A>* keys, int count, NmsKey<A>* shared, bool merging) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) shared[i] = keys[i];
  nms_sort_shared(shared, count, merging, nms_tile<A>);
  for (int i = threadIdx.x; i < count; i += blockDim.x) keys[i] = shared[i];
  __syncthreads();
}

// Keys of the boxes that take part, in any order; returns how many. A warp asks for its places at once.
template <class A, class T>
__device__ __forceinline__ int64_t nms_collect(NmsInputs<A> const& in, int64_t image, NmsKey<A>* keys,
                                               unsigned* counter) {
  T const* const scores = static_cast<T const*>(in.scores) + image * in.n;
  int64_t const n = in.counts ? max_of<int64_t>(0, min_of(in.counts[image], in.n)) : in.n;
  int const lane = threadIdx.x % 32;
  if (threadIdx.x == 0) *counter = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i - lane < n; i += blockDim.x) {
    A const score = i < n ? A(scores[i]) : A(0);
    bool const takes = i < n && takes_part(score, in.score_threshold);
    unsigned const all = __ballot_sync(0xffffffffu, takes);
    unsigned first = 0;
    if (lane == 0 && all) first = atomicAdd(counter, unsigned(__popc(all)));
    first = __shfl_sync(0xffffffffu, first, 0);
    if (takes) keys[first + __popc(all & ((1u << lane) - 1))] = NmsKey<A>(score, i);
  }
  __syncthreads();
  int64_t const count = *counter;
  __syncthreads();
  return count;
}

template <class A>
struct NmsCandidate {
  int64_t index, label;
  Box<A> box;
  A area;
};

template <class A, class T>
__device__ __forceinline__ NmsCandidate<A> nms_candidate(NmsInputs<A> const& in, int64_t image, int64_t index) {
  int64_t const at = image * in.n + index;
  Box<A> const box = load_box<A>(static_cast<T const*>(in.boxes) + 4 * at);
  return {index, in.labels ? in.labels[at] : 0, box, area(box)};
}

template <class A>
__device__ __forceinline__ bool nms_drops(NmsMemory<A> const& s, int64_t k, NmsCandidate<A> const& c, bool labelled,
                                          A threshold) {
  return (!labelled || s.label[k] == c.label) &&
         suppresses(Box<A>{s.coordinates[0][k], s.coordinates[1][k], s.coordinates[2][k], s.coordinates[3][k]},
                    s.coordinates[4][k], c.box, c.area, threshold);
}

// Which of 64 boxes are kept; `by`: which ones before it overlap this lane's boxes, number lane and lane + 32. Instead
// of one box after the other, in each round all that are sure: a box stays when all before it that overlap it are
// dropped, and is dropped when one of them stays. By a whole warp.
__device__ __forceinline__ unsigned long long nms_decide(unsigned long long by0, unsigned long long by1,
                                                         unsigned long long open) {
  int const lane = threadIdx.x % 32;
  auto const both = [](bool first, bool second) {
    return __ballot_sync(0xffffffffu, first) | uint64_t(__ballot_sync(0xffffffffu, second)) << 32;
  };
  unsigned long long kept = 0;
  while (open) {
    unsigned long long const hope = open | kept;
    kept |= both((open >> lane & 1) && !(by0 & hope), (open >> (lane + 32) & 1) && !(by1 & hope));
    open &= ~kept;
    open &= ~both(by0 & kept, by1 & kept);
  }
  return kept;
}

// Decides the sorted boxes [begin, end) against each other and against the kept ones from `from` on, of which there are
// `found`; returns how many there are then, at most max_det. By chunks of 64, every box by blockDim / 64 threads:
// (1) against the kept ones and against those before it in the chunk, (2) one warp decides, (3) what is kept is
// appended. The next chunk is on its way meanwhile.
template <class A, class T>
__device__ __forceinline__ int64_t nms_sweep(NmsInputs<A> const& in, int64_t image, NmsMemory<A> const& s,
                                             NmsKey<A> const* keys, int64_t begin, int64_t end, int64_t from,
                                             int64_t found, bool use_dropped) {
  LEYOLO_SHARED(A, chunk, 5 * kNmsChunk);
  LEYOLO_SHARED(long long, chunk_label, kNmsChunk);
  LEYOLO_SHARED(unsigned long long, overlapped, kNmsChunk);  // by which boxes before it in the chunk
  LEYOLO_SHARED(unsigned, gone, 2);                          // boxes that a kept one drops, and those behind the end
  LEYOLO_SHARED(unsigned long long, keeps, 1);
  int const b = threadIdx.x % kNmsChunk, slice = threadIdx.x / kNmsChunk, slices = blockDim.x / kNmsChunk;
  bool const labelled = in.labels != nullptr;
  auto const load = [&](int64_t at) { return nms_candidate<A, T>(in, image, keys[min_of(at, end - 1)].index()); };
  if (begin >= end) return found;
  NmsCandidate<A> mine = load(begin + b);
  for (int64_t first = begin; first < end && found < in.max_det; first += kNmsChunk) {
    if (slice == 0) {
      A const values[] = {mine.box.x1, mine.box.y1, mine.box.x2, mine.box.y2, mine.area};
      for (int c = 0; c < 5; ++c) chunk[c * kNmsChunk + b] = values[c];
      chunk_label[b] = mine.label;
      overlapped[b] = 0;
      if (b < 2) gone[b] = 0;
    }
    __syncthreads();
    NmsCandidate<A> const next = load(first + kNmsChunk + b);
    bool dropped = first + b >= end || (use_dropped && s.dropped[first + b]);
    for (int64_t k = from + slice; k < found && !dropped; k += slices)
      dropped = nms_drops(s, k, mine, labelled, in.iou_threshold);
    unsigned const lost = __ballot_sync(0xffffffffu, dropped);
    if (lost && threadIdx.x % 32 == 0) atomicOr(gone + b / 32, lost);
    unsigned long long by = 0;
    for (int e = slice; e < b && !dropped; e += slices)
      if ((!labelled || chunk_label[e] == mine.label) &&
          suppresses(Box<A>{chunk[e], chunk[kNmsChunk + e], chunk[2 * kNmsChunk + e], chunk[3 * kNmsChunk + e]},
                     chunk[4 * kNmsChunk + e], mine.box, mine.area, in.iou_threshold))
        by |= 1ull << e;
    if (by) atomicOr(overlapped + b, by);
    __syncthreads();
    if (threadIdx.x < 32) {
      unsigned long long kept =
          nms_decide(overlapped[threadIdx.x], overlapped[threadIdx.x + 32], ~(gone[0] | uint64_t(gone[1]) << 32));
      for (int64_t extra = found + __popcll(kept) - in.max_det; extra > 0; --extra)
        kept &= ~(1ull << (63 - __clzll(int64_t(kept))));
      if (threadIdx.x == 0) *keeps = kept;
    }
    __syncthreads();
    unsigned long long const kept = *keeps;
    if (slice == 0 && kept >> b & 1) {
      int64_t const to = found + __popcll(kept & ((1ull << b) - 1));
      A const values[] = {mine.box.x1, mine.box.y1, mine.box.x2, mine.box.y2, mine.area};
      for (int c = 0; c < 5; ++c) s.coordinates[c][to] = values[c];
      s.label[to] = mine.label;
      in.indices[image * in.max_det + to] = mine.index;
    }
    found += __popcll(kept);
    mine = next;
    __syncthreads();
  }
  return found;
}

// -1 behind the last kept one.
template <class A>
__device__ void nms_fill_rest(NmsInputs<A> const& in, int64_t image, int64_t found) {
  for (int64_t i = found + threadIdx.x; i < in.max_det; i += blockDim.x) in.indices[image * in.max_det + i] = -1;
}

// For few images of very many boxes: sort and sweep by all blocks, in a number of launches that depends on n alone.
void nms_by_rounds(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
                   Nms const& params, Context const& context);

}  // namespace leyolo

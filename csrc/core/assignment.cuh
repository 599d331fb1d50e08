// What the CUDA twins of the label assigners share. Inputs are read in their own dtypes; what depends on a count is
// decided on the device.
#pragma once

#include "core/assignment.h"
#include "core/cuda.cuh"

namespace leyolo {

struct Floats {
  void const* data;
  DType dtype;

  explicit Floats(View v) : data(v.data), dtype(v.dtype) {}
  __device__ __forceinline__ float operator[](int64_t i) const {
    if (dtype == DType::f32) return static_cast<float const*>(data)[i];
    if (dtype == DType::f16) return float(static_cast<__half const*>(data)[i]);
    return float(static_cast<__nv_bfloat16 const*>(data)[i]);
  }
};

struct Integers {
  void const* data;
  bool wide;

  explicit Integers(View v) : data(v.data), wide(v.dtype == DType::i64) {}
  __device__ __forceinline__ int64_t operator[](int64_t i) const {
    return wide ? static_cast<int64_t const*>(data)[i] : static_cast<int32_t const*>(data)[i];
  }
};

__device__ __forceinline__ CenteredBox load_box(Floats const& boxes, int64_t i, bool xyxy) {
  return centered_box(boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3], xyxy);
}

// Box `i` of ground truths; `classes` < 0: labels are not looked at.
struct Truths {
  Floats boxes;
  Integers labels, counts;
  int64_t G, classes;
  bool xyxy;

  Truths(GroundTruth const& gt, int64_t class_count, bool corners)
      : boxes(gt.boxes),
        labels(gt.labels),
        counts(gt.counts),
        G(gt.boxes.shape[1]),
        classes(class_count),
        xyxy(corners) {}
  __device__ __forceinline__ int count(int64_t b) const {
    int64_t const n = counts[b];
    return int(n < 0 ? 0 : n > G ? G : n);
  }
  // -1: takes no part.
  __device__ __forceinline__ int label(int64_t b, int g) const {
    if (classes < 0) return 0;
    int64_t const label = labels[b * G + g];
    return label >= 0 && label < classes ? int(label) : -1;
  }
  // NaN, which overlaps nothing and holds no anchor, where it takes no part.
  __device__ __forceinline__ CenteredBox box(int64_t b, int g) const {
    float const nan = __builtin_nanf("");
    if (label(b, g) < 0) return {{nan, nan, nan, nan, nan}, nan, nan};
    return load_box(boxes, b * G + g, xyxy);
  }
};

// A tile of an image's ground truths in shared memory: structure of arrays [7][kTruthTile], filled by the whole block.
constexpr int kTruthTile = 64;
struct TruthTile {
  float* at;

  __device__ __forceinline__ void fill(Truths const& truths, int64_t b, int first, int count) const {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      CenteredBox const t = truths.box(b, first + i);
      float const fields[kBoxFields] = {t.box.x1, t.box.y1, t.box.x2, t.box.y2, t.box.area, t.cx, t.cy};
      for (int f = 0; f < kBoxFields; ++f) at[f * kTruthTile + i] = fields[f];
    }
  }
  __device__ __forceinline__ CenteredBox operator[](int i) const {
    float const* const p = at + i;
    return {{p[0], p[kTruthTile], p[2 * kTruthTile], p[3 * kTruthTile], p[4 * kTruthTile]},
            p[5 * kTruthTile],
            p[6 * kTruthTile]};
  }
};

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;

using Key = unsigned long long;
constexpr Key kNoKey = ~Key(0);

// Keys order as their values do, equal ones as their items. The value is not NaN; -0 equals 0.
__device__ __forceinline__ Key key_of(float value, int item) {
  unsigned const bits = __builtin_bit_cast(unsigned, value + 0.0f);
  return Key(bits ^ (bits >> 31 ? kAllLanes : 0x80000000u)) << 32 | unsigned(item);
}
__device__ __forceinline__ int item_of(Key key) { return int(unsigned(key)); }
__device__ __forceinline__ float value_of(Key key) {
  unsigned const bits = unsigned(key >> 32);
  return __builtin_bit_cast(float, bits ^ (bits >> 31 ? 0x80000000u : kAllLanes));
}

__device__ __forceinline__ Key warp_smallest(Key key) {
  for (int lane = kWarp / 2; lane > 0; lane /= 2) {
    Key const other = __shfl_xor_sync(kAllLanes, key, lane);
    key = other < key ? other : key;
  }
  return key;
}

// The smallest key of the block, in every thread. `slots` holds 2 * warps keys; `round` counts the calls: two halves
// spare a second barrier.
__device__ __forceinline__ Key block_smallest(Key key, Key* slots, int round) {
  int const warps = blockDim.x / kWarp;
  Key* const half = slots + (round & 1) * warps;
  key = warp_smallest(key);
  if (threadIdx.x % kWarp == 0) half[threadIdx.x / kWarp] = key;
  __syncthreads();
  key = half[0];
  for (int w = 1; w < warps; ++w) key = half[w] < key ? half[w] : key;
  return key;
}

// One thread's smallest keys in ascending order, in registers. When it runs dry and keys were left out, its owner goes
// over its items again and offers those above the last key taken: any number of keys can be had in order.
struct Shortlist {
  static constexpr int kLength = 4;
  Key keys[kLength];
  bool left_out;

  __device__ __forceinline__ void clear() {
    for (int i = 0; i < kLength; ++i) keys[i] = kNoKey;
    left_out = false;
  }
  __device__ __forceinline__ void offer(Key key) {
    left_out |= keys[kLength - 1] != kNoKey;
    if (key >= keys[kLength - 1]) return;
    for (int i = 0; i < kLength; ++i) {
      Key const old = keys[i];
      keys[i] = key < old ? key : old;
      key = key < old ? old : key;
    }
  }
  __device__ __forceinline__ void drop() {
    for (int i = 0; i + 1 < kLength; ++i) keys[i] = keys[i + 1];
    keys[kLength - 1] = kNoKey;
  }
  // The smallest key of all threads of the block, taken out; kNoKey when none is left. scan(f) calls f(key) for every
  // item of this thread.
  template <class Scan>
  __device__ __forceinline__ Key take(Key* slots, int& round, Scan&& scan) {
    Key const best = block_smallest(keys[0], slots, round++);
    if (best == keys[0] && best != kNoKey) {
      drop();
      if (keys[0] == kNoKey && left_out) {
        left_out = false;
        scan([&](Key key) {
          if (key > best) offer(key);
        });
      }
    }
    return best;
  }
};

struct Outputs {
  int64_t* gt_index;
  float *iou, *score;
  int64_t *num_fg, *dynamic_k;

  explicit Outputs(Assigned const& out)
      : gt_index(out.gt_index.as<int64_t>()),
        iou(out.iou.as<float>()),
        score(out.score.as<float>()),
        num_fg(out.num_fg.as<int64_t>()),
        dynamic_k(out.dynamic_k.as<int64_t>()) {}
};

__device__ __forceinline__ void add_to(int64_t* counter, int count) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), (unsigned long long)(count));
}

// Marks an item for ground truth g: the result does not depend on the order of those who mark.
__device__ __forceinline__ void mark(int* owner, int g) {
  if (atomicCAS(owner, kNobody, g) != kNobody) atomicMin(owner, kSeveral);
}

}  // namespace leyolo

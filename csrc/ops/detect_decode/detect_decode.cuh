// What the kernels of detect_decode share: the head's rows, and which classes of an anchor are candidates.
#pragma once

#include "core/cuda.cuh"
#include "ops/detect_decode/detect_decode_cuda.h"
#include "ops/detect_decode/detect_decode_math.h"

namespace leyolo {

constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
struct DetectHead {
  T const* logits;  // [B, anchors, channels]
  int64_t batch, anchors, chunks;
  int channels, first_class, classes, reg_max;
  DetectLimits limits;
  int64_t capacity;
  DetectMemory memory;

  __device__ T const* row(int64_t at) const { return logits + at * channels; }
};

// rank >= limits.rank: class `c` of the row is a candidate (or the best class may be one).
template <bool yolox, class T>
__device__ __forceinline__ float detect_rank(float objectness, float logit) {
  return yolox ? objectness * sigmoid_exact(logit) : logit;
}

template <bool yolox, class T>
__device__ __forceinline__ float detect_objectness(DetectHead<T> const& d, T const* row) {
  return yolox ? sigmoid_exact(float(row[d.first_class - 1])) : 1.0f;
}

// Whether class c, below d.classes or not, is a candidate, and its rank.
template <bool yolox, class T>
__device__ __forceinline__ bool detect_offers(DetectHead<T> const& d, T const* row, float objectness, int c,
                                              float& rank) {
  if (c >= d.classes) return false;
  float const logit = float(row[d.first_class + c]);
  if (!(logit >= d.limits.logit)) return false;
  rank = detect_rank<yolox, T>(objectness, logit);
  return rank >= d.limits.rank;
}

// A warp over the candidates of anchors [first, end) of one image: f(rank), in any order, by any lane.
template <bool yolox, bool multi, class T, class F>
__device__ __forceinline__ void detect_each(DetectHead<T> const& d, int64_t image, int64_t first, int64_t end, F&& f) {
  int const lane = threadIdx.x % 32;
  int64_t const base = image * d.anchors;
  if constexpr (!multi) {
    for (int64_t a = first + lane; a < end; a += 32)
      if (d.memory.candidates[base + a]) f(d.memory.rank[base + a]);
  } else {
    for (int64_t a = first; a < end; ++a) {
      if (!d.memory.candidates[base + a]) continue;
      T const* const row = d.row(base + a);
      float const objectness = detect_objectness<yolox>(d, row);
      for (int c = lane; c < d.classes; c += 32) {
        float rank;
        if (detect_offers<yolox>(d, row, objectness, c, rank)) f(rank);
      }
    }
  }
}

template <class V>
__device__ __forceinline__ V detect_warp_sum(V v) {
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(kAllLanes, v, o);
  return v;
}
// Of the lanes up to this one.
template <class V>
__device__ __forceinline__ V detect_warp_scan(V v) {
  for (int o = 1; o < 32; o *= 2) {
    V const other = __shfl_up_sync(kAllLanes, v, o);
    if (int(threadIdx.x % 32) >= o) v += other;
  }
  return v;
}

// Per image, after the scan: the cut where there are more than fit, and where the candidates of every chunk go.
template <class T>
void detect_offsets(DetectHead<T> const& d, View counts, bool yolox, bool multi, Context const& context);

}  // namespace leyolo

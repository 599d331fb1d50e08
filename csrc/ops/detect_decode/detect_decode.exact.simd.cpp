// The same bits on every instruction set: comparisons, and sums in one fixed order over 16 lanes whatever the vector
// length of the machine.
#include "core/simd.h"
#include "ops/detect_decode/detect_decode_args.h"
#include "ops/detect_decode/detect_decode_math.h"

namespace leyolo::LEYOLO_ISA {

namespace {

typedef float v16 __attribute__((vector_size(64)));
typedef float v16_loose __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v4 __attribute__((vector_size(16)));

LEYOLO_INLINE v16 splat16(float f) { return v16{f, f, f, f, f, f, f, f, f, f, f, f, f, f, f, f}; }

LEYOLO_INLINE bool any_class(float const* p, int classes, vf limit) {
  vi found{};
  int c = 0;
  for (; c + kLanes <= classes; c += kLanes) found |= load(p + c) >= limit;
  if (c < classes) found |= (load_part(p + c, classes - c) >= limit) & first_lanes(classes - c);
  return any(found);
}

LEYOLO_INLINE float sum(v16 v) {
  v8 const a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
               __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  v4 const b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}
LEYOLO_INLINE float largest(v16 v) {
  float m = v[0];
  for (int i = 1; i < 16; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

LEYOLO_INLINE v16 load_bins(float const* p, int n) {
  if (n >= 16) return *reinterpret_cast<v16_loose const*>(p);
  v16 v = splat16(-__builtin_inff());
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

}  // namespace

extern void detect_scan(DetectScanArgs const& a) {
  vf const limit = splat(a.limit);
  float const* row = a.rows;
  for (long long i = 0; i < a.count; ++i, row += a.pitch)
    a.hit[i] =
        (a.objectness < 0 || row[a.objectness] >= a.limit) && any_class(row + a.first_class, a.classes, limit) ? 1 : 0;
}

// distances[side] = sum of bin * softmax(logits[side, bin]), for 4 sides.
extern void dfl_distances(float const* logits, int bins, float* distances) {
  i16 const lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  for (int side = 0; side < 4; ++side, logits += bins) {
    v16 best = splat16(-__builtin_inff());
    for (int i = 0; i < bins; i += 16) {
      v16 const v = load_bins(logits + i, bins - i);
      best = v > best ? v : best;
    }
    float const top = largest(best);
    v16 total{}, weighted{};
    for (int i = 0; i < bins; i += 16) {
      v16 const e = exp_of_negative<v16, i16>(load_bins(logits + i, bins - i) - top);
      v16 const kept = lane < bins - i ? e : v16{};
      total += kept;
      weighted += kept * __builtin_convertvector(lane + i, v16);
    }
    distances[side] = sum(weighted) / sum(total);
  }
}

}  // namespace leyolo::LEYOLO_ISA

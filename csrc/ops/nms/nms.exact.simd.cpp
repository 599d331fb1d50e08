// A box against the kept ones, a vector of them at a time: the arithmetic of core/box.h, operand for operand.
#include "core/simd.h"
#include "ops/nms/nms_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Comparisons as one bit per lane; false where either side is NaN.
#if defined(__AVX512F__)
LEYOLO_INLINE unsigned less(vf a, vf b) {
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_LT_OQ);
}
#elif defined(__AVX2__)
LEYOLO_INLINE unsigned less(vf a, vf b) {
  return unsigned(
      _mm256_movemask_ps(_mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_LT_OQ)));
}
#elif defined(__SSE__)
LEYOLO_INLINE unsigned less(vf a, vf b) {
  vi const mask = a < b;
  return unsigned(__builtin_ia32_movmskps(reinterpret_cast<vf>(mask)));
}
#else
LEYOLO_INLINE unsigned less(vf a, vf b) {
  unsigned bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= unsigned(a[i] < b[i]) << i;
  return bits;
}
#endif

struct Vectors {
  vf x1, y1, x2, y2, area;
};

// The division is the slow part, and inter / all > t needs inter >= t * all where t >= 0 (rounding is monotonic, so
// this holds for the rounded product too): `filter` is t, or NaN where t < 0, which lets everything pass.
LEYOLO_INLINE bool any_above(Vectors const& kept, NmsBox const& box, vf threshold, vf filter, unsigned lanes) {
  vf const w = max_of(vf{}, min_of(kept.x2, splat(box.x2)) - max_of(kept.x1, splat(box.x1)));
  vf const h = max_of(vf{}, min_of(kept.y2, splat(box.y2)) - max_of(kept.y1, splat(box.y1)));
  vf const inter = w * h, all = kept.area + splat(box.area) - inter;
  if (!(~less(inter, filter * all) & lanes)) return false;
  return less(threshold, inter / all) & lanes;
}

}  // namespace

extern bool nms_is_suppressed(NmsKept const& kept, NmsBox const& box, float threshold) {
  vf const t = splat(threshold), filter = splat(threshold < 0 ? __builtin_nanf("") : threshold);
  long long i = 0;
  for (; i + kLanes <= kept.count; i += kLanes)
    if (any_above({load(kept.x1 + i), load(kept.y1 + i), load(kept.x2 + i), load(kept.y2 + i), load(kept.area + i)},
                  box, t, filter, (1u << kLanes) - 1))
      return true;
  int const n = int(kept.count - i);
  return n && any_above({load_part(kept.x1 + i, n), load_part(kept.y1 + i, n), load_part(kept.x2 + i, n),
                         load_part(kept.y2 + i, n), load_part(kept.area + i, n)},
                        box, t, filter, (1u << n) - 1);
}

}  // namespace leyolo::LEYOLO_ISA

// Without contraction, so that every instruction set (and torch, which rounds each operation) gives the same IoUs.
#include "core/simd.h"
#include "ops/box_iou/box_iou_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

LEYOLO_INLINE IouBox<vf> broadcast(IouBox<float> const& b) {
  return {splat(b.x1), splat(b.y1), splat(b.x2), splat(b.y2), splat(b.area), splat(b.cx), splat(b.cy), splat(b.angle)};
}
LEYOLO_INLINE IouBox<vf> columns_at(IouTile<float> const& t, int j) {
  return {load(t.plane[0] + j), load(t.plane[1] + j), load(t.plane[2] + j), load(t.plane[3] + j),
          load(t.plane[4] + j), load(t.plane[5] + j), load(t.plane[6] + j), load(t.plane[7] + j)};
}
LEYOLO_INLINE float sum(vf v) {
  float s = 0;
  for (int i = 0; i < kLanes; ++i) s += v[i];
  return s;
}

// Values up to where a whole vector may be stored past the caches.
LEYOLO_INLINE int unaligned(float const* p) {
  return int(-reinterpret_cast<__UINTPTR_TYPE__>(p) % sizeof(vf) / sizeof(float));
}
LEYOLO_INLINE void store_past_caches(float* p, vf v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_stream_ps(p, reinterpret_cast<__m256>(v));
#elif defined(__x86_64__)
  _mm_stream_ps(p, reinterpret_cast<__m128>(v));
#else
  store(p, v);
#endif
}
// Before another thread may look for what was stored past the caches.
LEYOLO_INLINE void finish_stores() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <BoxIou kind, bool past_caches>
LEYOLO_INLINE void pairs(IouArgs<float> const& a) {
  for (int i = 0; i < a.rows; ++i) {
    IouBox<vf> const box = broadcast(a.row[i]);
    float* const out = a.out + i * a.pitch;
    IouPair<kind, false, vf, float> pair;
    auto const score = [&](int j) LEYOLO_LAMBDA { return pair.score(box, columns_at(*a.tile, j), a.eps); };
    int j = 0;
    if (past_caches) {
      int const head = unaligned(out);
      j = head < a.columns ? head : a.columns;
      if (j > 0) store_part(out, score(0), j);
    }
    for (; j + kLanes <= a.columns; j += kLanes)
      past_caches ? store_past_caches(out + j, score(j)) : store(out + j, score(j));
    if (j < a.columns) store_part(out + j, score(j), a.columns - j);
  }
  if (past_caches) finish_stores();
}
template <BoxIou kind>
LEYOLO_INLINE void pairs(IouArgs<float> const& a) {
  a.past_caches ? pairs<kind, true>(a) : pairs<kind, false>(a);
}

template <BoxIou kind>
LEYOLO_INLINE void row_gradients(IouArgs<float> const& a) {
  for (int i = 0; i < a.rows; ++i) {
    IouBox<vf> const box = broadcast(a.row[i]);
    IouBox<vf> total{};
    IouPair<kind, false, vf, float> pair;
    for (int j = 0; j < a.columns; j += kLanes) {
      float const* const g = a.g + i * a.pitch + j;
      IouBox<vf> const other = columns_at(*a.tile, j);
      pair.score(box, other, a.eps);
      add_to(total, pair.gradient(box, other, a.eps, j + kLanes <= a.columns ? load(g) : load_part(g, a.columns - j)));
    }
    add_to(a.row_gradient[i], IouBox<float>{sum(total.x1), sum(total.y1), sum(total.x2), sum(total.y2), sum(total.area),
                                            sum(total.cx), sum(total.cy), sum(total.angle)});
  }
}

template <BoxIou kind>
LEYOLO_INLINE void column_gradients(IouArgs<float> const& a) {
  for (int j = 0; j < a.columns; j += kLanes) {
    IouBox<vf> const box = columns_at(*a.tile, j);
    IouBox<vf> total{};
    IouPair<kind, false, vf, float> pair;
    for (int i = 0; i < a.rows; ++i) {
      float const* const g = a.g + i * a.pitch + j;
      IouBox<vf> const other = broadcast(a.row[i]);
      pair.score(box, other, a.eps);
      add_to(total, pair.gradient(box, other, a.eps, j + kLanes <= a.columns ? load(g) : load_part(g, a.columns - j)));
    }
    vf const fields[kIouPlanes] = {total.x1, total.y1, total.x2, total.y2, total.area, total.cx, total.cy, total.angle};
    for (int p = 0; p < kIouPlanes; ++p) {
      float* const to = a.column_gradient->plane[p] + j;
      store(to, load(to) + fields[p]);
    }
  }
}

template <BoxIou kind>
LEYOLO_INLINE void gradients(IouArgs<float> const& a) {
  a.row_gradient ? row_gradients<kind>(a) : column_gradients<kind>(a);
}

}  // namespace

extern void box_iou_pairs(IouArgs<float> const& a) {
  switch (a.kind) {
    case BoxIou::iou: return pairs<BoxIou::iou>(a);
    case BoxIou::generalized: return pairs<BoxIou::generalized>(a);
    case BoxIou::distance: return pairs<BoxIou::distance>(a);
    case BoxIou::complete: return pairs<BoxIou::complete>(a);
  }
}

extern void box_iou_gradients(IouArgs<float> const& a) {
  switch (a.kind) {
    case BoxIou::iou: return gradients<BoxIou::iou>(a);
    case BoxIou::generalized: return gradients<BoxIou::generalized>(a);
    case BoxIou::distance: return gradients<BoxIou::distance>(a);
    case BoxIou::complete: return gradients<BoxIou::complete>(a);
  }
}

}  // namespace leyolo::LEYOLO_ISA

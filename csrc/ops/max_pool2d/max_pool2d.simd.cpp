#include "core/simd.h"
#include "ops/max_pool2d/max_pool2d_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// As in torch, NaN wins: it spreads to every window that holds it.
LEYOLO_INLINE vf greater_of(vf best, vf v) {
#if defined(__AVX512F__)
  __m512 const x = reinterpret_cast<__m512>(v), most = _mm512_max_ps(x, reinterpret_cast<__m512>(best));
  return reinterpret_cast<vf>(_mm512_mask_mov_ps(most, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x));
#else
  return (v > best) | (v != v) ? v : best;
#endif
}

// The greatest values of columns, those of the last kMostPooled ones.
struct Columns {
  vf greatest[kMostPooled];

  LEYOLO_INLINE vf& operator[](long long column) { return greatest[column % kMostPooled]; }
};

// `count` channels of one row, a vector at most: down the columns first, then along them.
LEYOLO_INLINE void pool_row(MaxPool2dArgs const& a, long long row, int channel, int count) {
  long long const reach = a.kernel / 2;
  long long const top = row < reach ? 0 : row - reach;
  long long const bottom = row + reach < a.height ? row + reach : a.height - 1;
  Columns columns;
  long long next = 0;  // column
  for (long long column = 0; column < a.width; ++column) {
    long long const left = column < reach ? 0 : column - reach;
    long long const right = column + reach < a.width ? column + reach : a.width - 1;
    for (; next <= right; ++next) {
      vf best = splat(-__builtin_inff());
      for (long long y = top; y <= bottom; ++y)
        best = greater_of(best, load_part(a.x + (y * a.width + next) * a.x_pitch + channel, count));
      columns[next] = best;
    }
    vf best = columns[left];
    for (long long x = left + 1; x <= right; ++x) best = greater_of(best, columns[x]);
    store_part(a.y + (row * a.width + column) * a.y_pitch + channel, best, count);
  }
}

}  // namespace

// Rows [begin, end).
extern void max_pool2d_rows(MaxPool2dArgs const& a, long long begin, long long end) {
  for (long long row = begin; row < end; ++row)
    for (int channel = 0; channel < a.channels; channel += kLanes)
      pool_row(a, row, channel, a.channels - channel < kLanes ? a.channels - channel : kLanes);
}

}  // namespace leyolo::LEYOLO_ISA

#include "core/simd.h"
#include "ops/max_pool2d/max_pool2d_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

constexpr int kColumns = 64, kMostKernel = 64;  // forward_check.cpp

// As in torch, NaN wins.
LEYOLO_INLINE vf larger(vf a, vf b) {
#if defined(__AVX512F__)
  __m512 const x = reinterpret_cast<__m512>(a), most = _mm512_max_ps(x, reinterpret_cast<__m512>(b));
  return reinterpret_cast<vf>(_mm512_mask_mov_ps(most, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x));
#else
  return (a > b) | (a != a) ? a : b;
#endif
}

// One row, one vector of channels: of every column the largest value of its rows, then of every window the largest of
// its columns. KERNEL: where that is known, else 0.
template <int KERNEL>
LEYOLO_INLINE void pool_row(MaxPool2dArgs const& a, float const* x, float* y, long long rows, int n) {
  long long const kernel = KERNEL ? KERNEL : a.kernel, reach = kernel / 2, line = a.width * a.x_pitch;
  vf columns[kColumns + kMostKernel];
  for (long long first = 0; first < a.width; first += kColumns) {
    long long const count = a.width - first < kColumns ? a.width - first : kColumns;
    for (long long i = 0; i < count + kernel - 1; ++i) {
      long long const column = first + i - reach;
      vf best = splat(-__builtin_inff());
      if (column >= 0 && column < a.width)
        for (long long row = 0; row < rows; ++row)
          best = larger(best, load_part(x + row * line + column * a.x_pitch, n));
      columns[i] = best;
    }
    for (long long i = 0; i < count; ++i) {
      vf best = columns[i];
#pragma GCC unroll 8
      for (long long j = 1; j < kernel; ++j) best = larger(best, columns[i + j]);
      store_part(y + (first + i) * a.y_pitch, best, n);
    }
  }
}

}  // namespace

// Rows [begin, end).
extern void max_pool2d_rows(MaxPool2dArgs const& a, long long begin, long long end) {
  long long const reach = a.kernel / 2;
  for (long long row = begin; row < end; ++row) {
    long long const top = row < reach ? 0 : row - reach;
    long long const rows = (row + reach < a.height ? row + reach + 1 : a.height) - top;
    for (int channel = 0; channel < a.channels; channel += kLanes) {
      int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
      float const* const x = a.x + top * a.width * a.x_pitch + channel;
      float* const y = a.y + row * a.width * a.y_pitch + channel;
      if (a.kernel == 5)
        pool_row<5>(a, x, y, rows, n);
      else
        pool_row<0>(a, x, y, rows, n);
    }
  }
}

}  // namespace leyolo::LEYOLO_ISA

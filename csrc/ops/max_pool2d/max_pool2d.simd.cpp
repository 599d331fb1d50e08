#include "core/simd.h"
#include "ops/max_pool2d/max_pool2d_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

constexpr int kUsual = 5;  // the kernel of SPPF: its loops have a fixed length

// As in torch, NaN wins: it spreads to every window that holds it.
struct Greatest {
  vf best = splat(-__builtin_inff());
  vi ordered = vi{} - 1;  // where no value was NaN

  LEYOLO_INLINE void add(vf v) {
    best = max_of(best, v);
    ordered &= v == v;
  }
  LEYOLO_INLINE vf value() const { return ordered ? best : splat(__builtin_nanf("")); }
};

// Into 0 ... last: the value at the edge again changes no maximum.
LEYOLO_INLINE long long clamped(long long i, long long last) { return i < 0 ? 0 : i > last ? last : i; }

// `count` channels of one row: down the columns first, then along them.
template <int kernel, bool whole_vector>
LEYOLO_INLINE void pool_row(MaxPool2dArgs const& a, long long row, int channel, int count) {
  int const size = kernel ? kernel : a.kernel;
  long long const reach = size / 2, bottom = a.height - 1, right = a.width - 1;
  vf columns[kMostPooled];  // of the last ones the greatest value each
  long long next = 0;       // column
  for (long long x = 0; x < a.width; ++x) {
    for (; next <= x + reach && next <= right; ++next) {
      Greatest column;
#pragma GCC unroll 8
      for (int k = 0; k < size; ++k) {
        float const* const p = a.x + (clamped(row - reach + k, bottom) * a.width + next) * a.x_pitch + channel;
        column.add(whole_vector ? load(p) : load_part(p, count));
      }
      columns[next % kMostPooled] = column.value();
    }
    Greatest window;
#pragma GCC unroll 8
    for (int k = 0; k < size; ++k) window.add(columns[clamped(x - reach + k, right) % kMostPooled]);
    float* const to = a.y + (row * a.width + x) * a.y_pitch + channel;
    whole_vector ? store(to, window.value()) : store_part(to, window.value(), count);
  }
}

template <int kernel>
LEYOLO_INLINE void pool_rows(MaxPool2dArgs const& a, long long begin, long long end) {
  for (long long row = begin; row < end; ++row) {
    int channel = 0;
    for (; channel + kLanes <= a.channels; channel += kLanes) pool_row<kernel, true>(a, row, channel, kLanes);
    if (channel < a.channels) pool_row<kernel, false>(a, row, channel, a.channels - channel);
  }
}

}  // namespace

// Rows [begin, end).
extern void max_pool2d_rows(MaxPool2dArgs const& a, long long begin, long long end) {
  a.kernel == kUsual ? pool_rows<kUsual>(a, begin, end) : pool_rows<0>(a, begin, end);
}

}  // namespace leyolo::LEYOLO_ISA

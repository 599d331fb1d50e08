#include "core/simd.h"
#include "ops/max_pool2d/max_pool2d_args.h"

namespace leyolo::LEYOLO_ISA {

// Rows [begin, end). As in torch, NaN wins: it spreads to every window that holds it.
extern void max_pool2d_rows(MaxPool2dArgs const& a, long long begin, long long end) {
  long long const reach = a.kernel / 2;
  for (long long row = begin; row < end; ++row) {
    long long const top = row < reach ? 0 : row - reach;
    long long const bottom = row + reach < a.height ? row + reach : a.height - 1;
    for (long long column = 0; column < a.width; ++column) {
      long long const left = column < reach ? 0 : column - reach;
      long long const right = column + reach < a.width ? column + reach : a.width - 1;
      for (int channel = 0; channel < a.channels; channel += kLanes) {
        int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
        vf best = splat(-__builtin_inff());
        for (long long y = top; y <= bottom; ++y)
          for (long long x = left; x <= right; ++x) {
            vf const v = load_part(a.x + (y * a.width + x) * a.x_pitch + channel, n);
            best = (v > best) | (v != v) ? v : best;
          }
        store_part(a.y + (row * a.width + column) * a.y_pitch + channel, best, n);
      }
    }
  }
}

}  // namespace leyolo::LEYOLO_ISA

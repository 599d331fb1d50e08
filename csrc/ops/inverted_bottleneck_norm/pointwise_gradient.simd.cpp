// The weight gradient of a 1x1 convolution over some pixels that lie in the cache: register tiles of kOuts output
// channels x some vectors of input channels. Pixels are summed in their order.
#include "core/simd.h"
#include "ops/conv2d/conv2d_args.h"
#include "ops/inverted_bottleneck_norm/pointwise_gradient_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// With as many vectors as Conv2dTiles has at most, the vectors of x and one value of the gradient they fill the
// registers.
constexpr int kOuts = kRegisters == 16 && kLanes == 8 ? 4 : 6;

// TAIL: the last vector has `count` channels.
template <int OUTS, int NV, bool TAIL>
LEYOLO_INLINE void tile(PointwiseGradientArgs const& a, long long out, long long channel, int count) {
  float const *gradient = a.gradient + out, *x = a.x + channel;
  long long const step = a.out_channels, x_step = a.in_channels;
  vf acc[OUTS][NV] = {};
  for (long long p = 0; p < a.pixels; ++p, gradient += step, x += x_step) {
    vf value[NV];
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n)
      value[n] = pinned(TAIL && n == NV - 1 ? load_part(x + n * kLanes, count) : load(x + n * kLanes));
#pragma GCC unroll 8
    for (int m = 0; m < OUTS; ++m) {
      vf const g = splat(gradient[m]);
#pragma GCC unroll 8
      for (int n = 0; n < NV; ++n) acc[m][n] += g * value[n];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < OUTS; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) {
      float* const to = a.weight_gradient + (out + m) * a.in_channels + channel + n * kLanes;
      if (TAIL && n == NV - 1)
        store_part(to, load_part(to, count) + acc[m][n], count);
      else
        store(to, load(to) + acc[m][n]);
    }
}

template <int NV, bool TAIL>
__attribute__((noinline)) void all_outs(PointwiseGradientArgs const& a, long long channel, int count) {
  long long out = 0;
  for (; out + kOuts <= a.out_channels; out += kOuts) tile<kOuts, NV, TAIL>(a, out, channel, count);
  for (; out + 2 <= a.out_channels; out += 2) tile<2, NV, TAIL>(a, out, channel, count);
  if (out < a.out_channels) tile<1, NV, TAIL>(a, out, channel, count);
}

template <int NV>
void of_width(PointwiseGradientArgs const& a, long long channel) {
  long long const rest = a.in_channels - channel;
  if (rest >= NV * kLanes) return all_outs<NV, false>(a, channel, kLanes);
  all_outs<NV, true>(a, channel, static_cast<int>(rest - (NV - 1) * kLanes));
}

}  // namespace

extern void pointwise_weight_gradient(PointwiseGradientArgs const& a) {
  Conv2dTiles const tiles = Conv2dTiles::of(static_cast<int>(a.in_channels), kLanes);
  long long channel = 0;
  for (int i = 0; i < tiles.count; channel += tiles.width(i++) * kLanes) switch (tiles.width(i)) {
      case 1: of_width<1>(a, channel); break;
      case 2: of_width<2>(a, channel); break;
#if LEYOLO_LANES > 4 || LEYOLO_REGISTERS > 16
      case 3: of_width<3>(a, channel); break;
#endif
#if LEYOLO_REGISTERS > 16
      case 4: of_width<4>(a, channel); break;
#endif
    }
}

}  // namespace leyolo::LEYOLO_ISA

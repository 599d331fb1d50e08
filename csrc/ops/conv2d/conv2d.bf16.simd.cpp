// Dense convolution of bfloat16 maps: a tile is accumulated in float32 by dot products of two input channels.
#include "core/bf16_simd.h"
#include "ops/conv2d/conv2d_bf16_args.h"
#include "ops/conv2d/conv2d_tiles.h"

namespace leyolo::LEYOLO_ISA {

namespace {

template <int MR, int NV, bool SINGLE>
LEYOLO_INLINE void multiply(vf (&acc)[MR][NV], uint16_t const* x, long long step, uint32_t const* w) {
  vu weight[NV];
#pragma GCC unroll 16
  for (int n = 0; n < NV; ++n) weight[n] = *reinterpret_cast<vu_loose const*>(w + n * kLanes);
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
    vu const value = SINGLE ? splat_single(x + m * step) : splat_pair(x + m * step);
#pragma GCC unroll 16
    for (int n = 0; n < NV; ++n) acc[m][n] = dot(acc[m][n], value, weight[n]);
  }
}

struct Shorts {
  using Args = Conv2dBf16Args;
  using X = uint16_t;
  using W = uint32_t;
  using Y = void;

  // Accumulators + weights + one broadcast fill the 32 registers.
  template <int NV>
  static constexpr int kPixels = NV == 1   ? 14
                                 : NV == 2 ? 12
                                 : NV == 3 ? 8
                                           : 6;

  LEYOLO_INLINE static long long tap_words(Args const& a) { return (a.in_channels + 1) / 2; }
  LEYOLO_INLINE static long long chunk(Args const& a) { return 16384 / a.in_channels; }
  LEYOLO_INLINE static void* at(Args const& a, void* y, long long values) {
    return static_cast<char*>(y) + values * (a.float_y ? 4 : 2);
  }

  template <int NV>
  LEYOLO_INLINE static void pixels(Args const& a, Tile<Shorts> const& t, long long begin, long long end) {
    switch (a.stride * a.x_pitch) {
      case 8: return run_pixels<Shorts, NV, 8>(a, t, begin, end);    // the stem: 4 channels, stride 2
      case 16: return run_pixels<Shorts, NV, 16>(a, t, begin, end);  // the wide maps of nano ...
      case 24: return run_pixels<Shorts, NV, 24>(a, t, begin, end);  // ... and of the larger sizes
      default: return run_pixels<Shorts, NV, 0>(a, t, begin, end);
    }
  }

  template <int MR, int NV, int STEP, bool ADDEND>
  LEYOLO_INLINE static void run(Args const& a, Tile<Shorts> const& t, long long) {
    static_assert(!ADDEND);
    vf acc[MR][NV];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NV; ++n) acc[m][n] = vf{};
    // Taps of one row are adjacent in memory where pixels follow without a gap: one long inner loop.
    bool const odd = a.in_channels % 2, joined = a.x_pitch == a.in_channels && !odd;
    int const columns = joined ? 1 : t.columns, depth = joined ? t.columns * a.in_channels : a.in_channels;
    long long const step = STEP ? STEP : a.stride * a.x_pitch, x_row = a.width * a.x_pitch;
    long long const weight_column = tap_words(a) * NV * kLanes;
    for (int ky = 0; ky < t.rows; ++ky)
      for (int kx = 0; kx < columns; ++kx) {
        uint16_t const* x = t.x + ky * x_row + kx * a.x_pitch;
        uint32_t const* w = t.weight + (ky * a.kernel + kx) * weight_column;
        int c = 0;
        for (; c + 1 < depth; c += 2, w += NV * kLanes) multiply<MR, NV, false>(acc, x + c, step, w);
        if (odd) multiply<MR, NV, true>(acc, x + c, step, w);
      }
    // Last, not as the start of the sum: small products would be rounded at the size of a large bias.
#pragma GCC unroll 16
    for (int n = 0; n < NV; ++n) {
      vf const bias = load(t.bias + n * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) acc[m][n] += bias;
    }
    if (a.activation == Activation::silu) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NV; ++n) acc[m][n] = silu_scaled(acc[m][n]);
    } else if (a.activation != Activation::none) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NV; ++n) acc[m][n] = other_activation(a.activation, acc[m][n]);
    }
    bool const whole = t.last_vector == kLanes;
    if (t.residual) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NV; ++n) {
          uint16_t const* r = t.residual + m * a.residual_pitch + n * kLanes;
          acc[m][n] += widen(n < NV - 1 || whole ? load_half(r) : load_half_part(r, t.last_vector));
        }
    }
    if (a.float_y) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NV; ++n) {
          float* y = static_cast<float*>(t.y) + m * a.y_pitch + n * kLanes;
          if (n < NV - 1 || whole)
            store(y, acc[m][n]);
          else
            store_part(y, acc[m][n], t.last_vector);
        }
      return;
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      uint16_t* y = static_cast<uint16_t*>(t.y) + m * a.y_pitch;
      auto const one = [&](int n) LEYOLO_LAMBDA {
        if (n < NV - 1 || whole)
          store_half(y + n * kLanes, narrow(acc[m][n]));
        else
          store_half_part(y + n * kLanes, narrow(acc[m][n]), t.last_vector);
      };
#pragma GCC unroll 16
      for (int n = 0; n < NV; n += 2)
        if (n + 1 == NV) {
          one(n);
        } else if (n + 2 < NV || whole) {
          _mm512_storeu_si512(y + n * kLanes, narrow_two(acc[m][n], acc[m][n + 1]));
        } else {
          one(n);
          one(n + 1);
        }
    }
  }
};

}  // namespace

extern void conv2d_bf16_pixels(Conv2dBf16Args const& a, long long begin, long long end) {
  pointwise_pixels<Shorts>(a, begin, end);
}

extern void conv2d_bf16_rows(Conv2dBf16Args const& a, long long begin, long long end) {
  window_rows<Shorts>(a, begin, end);
}

}  // namespace leyolo::LEYOLO_ISA

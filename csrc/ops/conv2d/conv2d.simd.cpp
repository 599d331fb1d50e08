// Dense convolution, float32: a tile is accumulated over all taps and input channels.
#include "ops/conv2d/conv2d_tiles.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Out of line: rare, and unrolled it would only crowd the instruction cache.
__attribute__((noinline)) vf other_activation(Activation a, vf x) { return activate(a, x); }

struct Floats {
  using Args = Conv2dArgs;
  using X = float;
  using W = float;
  using Y = float;

  // Accumulators + weights + one broadcast fill the registers.
  template <int NV>
  static constexpr int kPixels = kRegisters == 32 ? (NV == 1   ? 14
                                                     : NV == 2 ? 12
                                                     : NV == 3 ? 8
                                                               : 6)
                                 : kLanes == 8    ? (NV == 1   ? 10
                                                     : NV == 2 ? 6
                                                               : 4)
                                                  : (NV == 1 ? 8 : 4);

  LEYOLO_INLINE static long long tap_words(Args const& a) { return a.in_channels; }
  LEYOLO_INLINE static long long chunk(Args const& a) { return 8192 / a.in_channels; }
  LEYOLO_INLINE static float* at(Args const&, float* y, long long values) { return y + values; }

  template <int NV>
  LEYOLO_INLINE static void pixels(Args const& a, Tile<Floats> const& t, long long begin, long long end) {
    switch (a.stride * a.x_pitch) {
      case 6: return run_pixels<Floats, NV, 6>(a, t, begin, end);    // the stem: 3 channels, stride 2
      case 16: return run_pixels<Floats, NV, 16>(a, t, begin, end);  // the wide maps of nano ...
      case 24: return run_pixels<Floats, NV, 24>(a, t, begin, end);  // ... and of the larger sizes
      default: return run_pixels<Floats, NV, 0>(a, t, begin, end);
    }
  }

  template <int MR, int NV, int STEP>
  LEYOLO_INLINE static void run(Args const& a, Tile<Floats> const& t) {
    vf acc[MR][NV];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NV; ++n) acc[m][n] = vf{};
    // Taps of one row are adjacent in memory where pixels follow without a gap: one long inner loop.
    bool const joined = a.x_pitch == a.in_channels;
    int const columns = joined ? 1 : t.columns, depth = joined ? t.columns * a.in_channels : a.in_channels;
    long long const step = STEP ? STEP : a.stride * a.x_pitch, x_row = a.width * a.x_pitch;
    long long const weight_row = static_cast<long long>(a.kernel) * a.in_channels * NV * kLanes;
    for (int ky = 0; ky < t.rows; ++ky)
      for (int kx = 0; kx < columns; ++kx) {
        float const* x = t.x + ky * x_row + kx * a.x_pitch;
        float const* w = t.weight + ky * weight_row + static_cast<long long>(kx) * a.in_channels * NV * kLanes;
        for (int c = 0; c < depth; ++c, w += NV * kLanes) {
          vf weight[NV];
#pragma GCC unroll 16
          for (int n = 0; n < NV; ++n) weight[n] = load(w + n * kLanes);
#pragma GCC unroll 16
          for (int m = 0; m < MR; ++m) {
            vf const value = splat(x[m * step + c]);
#pragma GCC unroll 16
            for (int n = 0; n < NV; ++n) acc[m][n] += value * weight[n];
          }
        }
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
        for (int n = 0; n < NV; ++n) acc[m][n] = silu(acc[m][n]);
    } else if (a.activation != Activation::none) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
        for (int n = 0; n < NV; ++n) acc[m][n] = other_activation(a.activation, acc[m][n]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      float* y = t.y + m * a.y_pitch;
#pragma GCC unroll 16
      for (int n = 0; n < NV; ++n) {
        vf v = acc[m][n];
        bool const whole = n < NV - 1 || t.last_vector == kLanes;
        if (t.residual) {
          float const* r = t.residual + m * a.residual_pitch + n * kLanes;
          v += whole ? load(r) : load_part(r, t.last_vector);
        }
        if (whole)
          store(y + n * kLanes, v);
        else
          store_part(y + n * kLanes, v, t.last_vector);
      }
    }
  }
};

}  // namespace

// Pixels of a register tile of that many vectors.
extern int conv2d_tile_pixels(int vectors) {
  switch (vectors) {
    case 1: return Floats::kPixels<1>;
    case 2: return Floats::kPixels<2>;
    case 3: return Floats::kPixels<3>;
    default: return Floats::kPixels<4>;
  }
}

extern void conv2d_pixels(Conv2dArgs const& a, long long begin, long long end) {
  pointwise_pixels<Floats>(a, begin, end);
}

extern void conv2d_rows(Conv2dArgs const& a, long long begin, long long end) { window_rows<Floats>(a, begin, end); }

}  // namespace leyolo::LEYOLO_ISA

// Dense convolution, float32: a tile is accumulated over all taps and input channels.
#include "ops/conv2d/conv2d_tiles.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Out of line: rare, and unrolled it would only crowd the instruction cache.
__attribute__((noinline)) vf other_activation(Activation a, vf x) { return activate(a, x); }

// What taps beyond the border read.
constexpr int kZeroChannels = 512;
alignas(64) constexpr float kZeros[kZeroChannels] = {};

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
    if (t.addend) return added_pixels<NV>(a, t, begin, end);
    if (end - begin < kPixels<NV>) return run_pixels<Floats, NV, 0>(a, t, begin, end);
    switch (a.stride * a.x_pitch) {
      case 6: return stepping<NV, 6>(a, t, begin, end);    // the stem: 3 channels, stride 2
      case 16: return stepping<NV, 16>(a, t, begin, end);  // the wide maps of nano ...
      case 24: return stepping<NV, 24>(a, t, begin, end);  // ... and of the larger sizes
      default: return stepping<NV, 0>(a, t, begin, end);
    }
  }

  template <int NV, int STEP>
  LEYOLO_INLINE static void stepping(Args const& a, Tile<Floats> const& t, long long begin, long long end) {
    bool const piped = a.activation == Activation::silu && !a.residual;
    if (a.kernel == 1)
      return piped ? silu_pixels<NV, STEP, true>(a, t, begin, end) : plain_pixels<NV, STEP>(a, t, begin, end);
    if (piped && a.x_pitch == a.in_channels) return silu_pixels<NV, STEP, false>(a, t, begin, end);
    run_pixels<Floats, NV, STEP>(a, t, begin, end);
  }

  // The same with an addend; a function of its own, so that the others do not pay for it.
  template <int NV>
  __attribute__((noinline)) static void added_pixels(Args const& a, Tile<Floats> const& t, long long begin,
                                                     long long end) {
    if (a.activation == Activation::silu && !a.residual && end - begin >= kPixels<NV>)
      return silu_pixels<NV, 0, true, true>(a, t, begin, end);
    run_pixels<Floats, NV, 0, true>(a, t, begin, end);
  }

  // run_pixels for 1x1. These loops are functions of their own with few variables: else GCC keeps addresses in vector
  // registers, and they arrive only after the multiplications that are queued before them.
  template <int NV, int STEP>
  __attribute__((noinline)) static void plain_pixels(Args const& a, Tile<Floats> const& t, long long begin,
                                                     long long end) {
    constexpr int MR = kPixels<NV>;
    long long const step = STEP ? STEP : a.stride * a.x_pitch;
    float const* const weight_end = t.weight + static_cast<long long>(a.in_channels) * NV * kLanes;
    for (long long p = begin; p < end; p += MR) {
      long long const first = p + MR <= end ? p : end - MR;
      float const* x = t.x + first * step;
      vf acc[MR][NV] = {};
      for (float const* w = t.weight; w < weight_end; w += NV * kLanes) multiply<MR, NV>(acc, x++, step, w);
      add_bias<MR, NV>(acc, t.bias);
      finish<MR, NV>(a, moved(a, t, first), acc);
    }
  }

  // run_pixels for SiLU, which is computed in between the multiplications of the next tile: it hardly needs their
  // execution units, and alone it would wait for its own results most of the time, since a tile's worth of it is too
  // long for the processor to look past. POINT: 1x1, else all taps of a row lie next to each other.
  template <int NV, int STEP, bool POINT, bool ADDEND = false>
  __attribute__((noinline)) static void silu_pixels(Args const& a, Tile<Floats> const& t, long long begin,
                                                    long long end) {
    constexpr int MR = kPixels<NV>, COUNT = MR * NV, LINE = NV * kLanes;
    // Vectors of SiLU after every multiplication, so that shallow tiles have room for all of them. Not more loops
    // unrolled than that: GCC would spill accumulators.
    constexpr int EACH = POINT && STEP > 0 && STEP < COUNT ? 2 : 1;
    static_assert(COUNT % EACH == 0);
    long long const step = STEP ? STEP : a.stride * a.x_pitch;
    int const depth = POINT ? a.in_channels : t.columns * a.in_channels, rows = POINT ? 1 : t.rows;
    long long const x_row = POINT ? 0 : a.width * a.x_pitch - depth;
    int const last_vector = t.last_vector;
    alignas(4 * kLanes) float sums[COUNT * kLanes];  // of the tile before, whose vectors from `next` on are to be done
    long long places[COUNT];                         // of its vectors, from y
    for (int i = 0; i < COUNT; ++i) places[i] = i / NV * a.y_pitch + i % NV * kLanes;
    float* y = nullptr;
    int next = COUNT;
    auto const activate_next = [&]() LEYOLO_LAMBDA {
      vf const v = silu(load(sums + next * kLanes));
      if (last_vector == kLanes || next % NV < NV - 1)
        store(y + places[next], v);
      else
        store_part(y + places[next], v, last_vector);
      ++next;
    };
    for (long long p = begin; p < end; p += MR) {
      long long const first = p + MR <= end ? p : end - MR;
      float const *x = t.x + first * step, *w = t.weight;
      vf acc[MR][NV] = {};
      for (int row = 0; row < rows; ++row, x += x_row) {
        float const* const w_end = w + static_cast<long long>(depth) * LINE;
        for (; next < COUNT && w < w_end; w += LINE) {
          multiply<MR, NV>(acc, x++, step, w);
          activate_next();
          if (EACH == 2) activate_next();
        }
        for (; w < w_end; w += LINE) multiply<MR, NV>(acc, x++, step, w);
      }
      while (next < COUNT) activate_next();
      if constexpr (ADDEND) add_addend<MR, NV>(a, t, first, acc);
      add_bias<MR, NV>(acc, t.bias);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
        for (int n = 0; n < NV; ++n) store(sums + i * LINE + n * kLanes, acc[i][n]);
      y = t.y + first * a.y_pitch;
      next = 0;
    }
    while (next < COUNT) activate_next();
  }

  // k x k with many channels: output pixels [begin, end) of the flattened image, at least a tile of them. Every pixel
  // has addresses of its own, so that tiles go over the ends of rows; taps beyond the border read zeros.
  template <int NV>
  static constexpr int kGathered = kPixels<NV> < 8 ? kPixels<NV> : 8;
  template <int NV>
  __attribute__((noinline)) static void gathered_pixels(Args const& a, Tile<Floats> const& t, long long begin,
                                                        long long end) {
    constexpr int MR = kGathered<NV>;
    for (long long p = begin; p < end; p += MR) {
      long long const first = p + MR <= end ? p : end - MR;
      long long row = first / a.out_width, column = first % a.out_width, top[MR], left[MR];
      for (int m = 0; m < MR; ++m) {
        top[m] = row * a.stride - a.padding;
        left[m] = column * a.stride - a.padding;
        if (++column == a.out_width) ++row, column = 0;
      }
      vf acc[MR][NV] = {};
      float const* w = t.weight;
      for (int tap = 0; tap < a.kernel * a.kernel; ++tap)
        for (int channel = 0; channel < a.in_channels; channel += kZeroChannels) {
          float const* x[MR];
          for (int m = 0; m < MR; ++m) {
            long long const y = top[m] + tap / a.kernel, column_x = left[m] + tap % a.kernel;
            bool const inside = y >= 0 && y < a.height && column_x >= 0 && column_x < a.width;
            x[m] = inside ? t.x + (y * a.width + column_x) * a.x_pitch + channel : kZeros;
          }
          int const rest = a.in_channels - channel, depth = rest < kZeroChannels ? rest : kZeroChannels;
          for (int c = 0; c < depth; ++c, w += NV * kLanes) {
            vf weight[NV];
#pragma GCC unroll 16
            for (int n = 0; n < NV; ++n) weight[n] = load(w + n * kLanes);
#pragma GCC unroll 16
            for (int m = 0; m < MR; ++m) {
              vf const value = splat(x[m][c]);
#pragma GCC unroll 16
              for (int n = 0; n < NV; ++n) acc[m][n] += value * weight[n];
            }
          }
        }
      add_bias<MR, NV>(acc, t.bias);
      finish<MR, NV>(a, moved(a, t, first), acc);
    }
  }

  template <int MR, int NV, int STEP, bool ADDEND>
  LEYOLO_INLINE static void run(Args const& a, Tile<Floats> const& t, [[maybe_unused]] long long pixel) {
    vf acc[MR][NV] = {};
    // Taps of one row are adjacent in memory where pixels follow without a gap: one long inner loop.
    bool const joined = a.x_pitch == a.in_channels;
    int const columns = joined ? 1 : t.columns, depth = joined ? t.columns * a.in_channels : a.in_channels;
    long long const step = STEP ? STEP : a.stride * a.x_pitch, x_row = a.width * a.x_pitch;
    long long const weight_row = static_cast<long long>(a.kernel) * a.in_channels * NV * kLanes;
    for (int ky = 0; ky < t.rows; ++ky)
      for (int kx = 0; kx < columns; ++kx) {
        float const* x = t.x + ky * x_row + kx * a.x_pitch;
        float const* w = t.weight + ky * weight_row + static_cast<long long>(kx) * a.in_channels * NV * kLanes;
        for (int c = 0; c < depth; ++c, w += NV * kLanes) multiply<MR, NV>(acc, x + c, step, w);
      }
    if constexpr (ADDEND) add_addend<MR, NV>(a, t, pixel, acc);
    add_bias<MR, NV>(acc, t.bias);
    finish<MR, NV>(a, t, acc);
  }

  // One input channel of one tap.
  template <int MR, int NV>
  LEYOLO_INLINE static void multiply(vf (&acc)[MR][NV], float const* x, long long step, float const* w) {
    vf weight[NV];
#pragma GCC unroll 16
    for (int n = 0; n < NV; ++n) weight[n] = load(w + n * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      vf const value = splat(x[m * step]);
#pragma GCC unroll 16
      for (int n = 0; n < NV; ++n) acc[m][n] += value * weight[n];
    }
  }

  template <int MR, int NV>
  LEYOLO_INLINE static void add_addend(Args const& a, Tile<Floats> const& t, long long first, vf (&acc)[MR][NV]) {
    float const* from[MR];
    find_addends(a, t, first, from);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
      for (int n = 0; n < NV; ++n) {
        bool const whole = n < NV - 1 || t.last_vector == kLanes;
        acc[m][n] += whole ? load(from[m] + n * kLanes) : load_part(from[m] + n * kLanes, t.last_vector);
      }
  }

  // Last, not as the start of the sum: small products would be rounded at the size of a large bias.
  template <int MR, int NV>
  LEYOLO_INLINE static void add_bias(vf (&acc)[MR][NV], float const* from) {
#pragma GCC unroll 16
    for (int n = 0; n < NV; ++n) {
      vf const bias = load(from + n * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) acc[m][n] += bias;
    }
  }

  // Activation, residual, output.
  template <int MR, int NV>
  LEYOLO_INLINE static void finish(Args const& a, Tile<Floats> const& t, vf (&acc)[MR][NV]) {
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

extern void conv2d_rows(Conv2dArgs const& a, long long begin, long long end) {
  long long const first = begin * a.out_width, last = end * a.out_width;
  if (a.in_channels < 16 || last - first < 8) return window_rows<Floats>(a, begin, end);
  each_tile<Floats>(a, [&](Tile<Floats> const& t, int vectors) LEYOLO_LAMBDA {
    switch (vectors) {
      case 1: return Floats::gathered_pixels<1>(a, t, first, last);
      case 2: return Floats::gathered_pixels<2>(a, t, first, last);
#if LEYOLO_LANES > 4 || LEYOLO_REGISTERS > 16
      case 3: return Floats::gathered_pixels<3>(a, t, first, last);
#endif
#if LEYOLO_REGISTERS > 16
      case 4: return Floats::gathered_pixels<4>(a, t, first, last);
#endif
    }
  });
}

}  // namespace leyolo::LEYOLO_ISA

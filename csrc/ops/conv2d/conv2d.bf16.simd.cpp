// Dense convolution of bfloat16 maps: the register tiles of conv2d.simd.cpp, on dot products of two input channels.
#include "core/bf16_simd.h"
#include "ops/conv2d/conv2d_bf16_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Accumulators + weights + one broadcast fill the 32 registers.
template <int NV>
constexpr int kPixels = NV == 1   ? 14
                        : NV == 2 ? 12
                        : NV == 3 ? 8
                                  : 6;

struct Tile {
  uint16_t const* x;       // first tap of the first pixel
  uint32_t const* weight;  // of this tile
  float const* bias;
  uint16_t const* residual;
  void* y;
  int rows, columns;  // taps that lie inside the image ...
  int last_vector;    // channels of the tile's last vector
};

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

// STEP: values from pixel to pixel in x where that is known (the addresses become constants, else each pixel of the
// tile needs a register), 0 where not.
template <int MR, int NV, int STEP>
LEYOLO_INLINE void run_tile(Conv2dBf16Args const& a, Tile const& t) {
  vf acc[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 16
    for (int n = 0; n < NV; ++n) acc[m][n] = vf{};
  // Taps of one row are adjacent in memory where pixels follow without a gap: one long inner loop.
  bool const odd = a.in_channels & 1, joined = a.x_pitch == a.in_channels && !odd;
  int const columns = joined ? 1 : t.columns, depth = joined ? t.columns * a.in_channels : a.in_channels;
  long long const step = STEP ? STEP : a.stride * a.x_pitch, x_row = a.width * a.x_pitch;
  long long const weight_column = static_cast<long long>((a.in_channels + 1) / 2) * NV * kLanes;
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

LEYOLO_INLINE void* advance(Conv2dBf16Args const& a, void* y, long long values) {
  return static_cast<char*>(y) + values * (a.float_y ? 4 : 2);
}

// Pixels [begin, end) of one run whose taps all lie inside the image; the last tile overlaps the one before it.
template <int NV, int STEP>
LEYOLO_INLINE void run_pixels(Conv2dBf16Args const& a, Tile const& t, long long begin, long long end) {
  constexpr int MR = kPixels<NV>;
  auto const at = [&](long long p) LEYOLO_LAMBDA {
    Tile s = t;
    s.x += p * a.stride * a.x_pitch;
    s.y = advance(a, s.y, p * a.y_pitch);
    if (s.residual) s.residual += p * a.residual_pitch;
    return s;
  };
  if (end - begin < MR) {
    for (long long p = begin; p < end; ++p) run_tile<1, NV, 0>(a, at(p));
    return;
  }
  for (long long p = begin; p < end; p += MR) run_tile<MR, NV, STEP>(a, at(p + MR <= end ? p : end - MR));
}

template <int NV>
LEYOLO_INLINE void pixels_of(Conv2dBf16Args const& a, Tile const& t, long long begin, long long end) {
  switch (a.stride * a.x_pitch) {
    case 16: return run_pixels<NV, 16>(a, t, begin, end);  // the wide maps of nano ...
    case 24: return run_pixels<NV, 24>(a, t, begin, end);  // ... and of the larger sizes
    default: return run_pixels<NV, 0>(a, t, begin, end);
  }
}

// Kept apart, else GCC allocates registers for all widths at once.
#define LEYOLO_PIXELS(NV)                                                                                              \
  __attribute__((noinline)) void pixels_##NV(Conv2dBf16Args const& a, Tile const& t, long long begin, long long end) { \
    pixels_of<NV>(a, t, begin, end);                                                                                   \
  }
LEYOLO_PIXELS(1)
LEYOLO_PIXELS(2)
LEYOLO_PIXELS(3)
LEYOLO_PIXELS(4)

void pixels(int vectors, Conv2dBf16Args const& a, Tile const& t, long long begin, long long end) {
  switch (vectors) {
    case 1: return pixels_1(a, t, begin, end);
    case 2: return pixels_2(a, t, begin, end);
    case 3: return pixels_3(a, t, begin, end);
    case 4: return pixels_4(a, t, begin, end);
  }
}

// Calls f(tile, vectors) for every tile of output channels.
template <class F>
LEYOLO_INLINE void each_tile(Conv2dBf16Args const& a, F f) {
  Conv2dTiles const tiles = Conv2dTiles::of(a.out_channels, kLanes);
  uint32_t const* weight = a.weight;
  int channel = 0;
  for (int i = 0; i < tiles.count; ++i) {
    int const vectors = tiles.width(i), rest = a.out_channels - channel;
    Tile t{a.x,
           weight,
           a.bias + channel,
           a.residual ? a.residual + channel : nullptr,
           advance(a, a.y, channel),
           a.kernel,
           a.kernel,
           rest >= vectors * kLanes ? kLanes : rest - (vectors - 1) * kLanes};
    f(t, vectors);
    weight += static_cast<long long>(a.kernel) * a.kernel * ((a.in_channels + 1) / 2) * vectors * kLanes;
    channel += vectors * kLanes;
  }
}

}  // namespace

// 1x1, stride 1: pixels [begin, end) of the flattened image.
extern void conv2d_bf16_pixels(Conv2dBf16Args const& a, long long begin, long long end) {
  // The input of a chunk stays in L1/L2 while the tiles' weights pass over it; a multiple of all tile heights.
  long long const fitting = 16384 / a.in_channels;
  long long const chunk = (fitting < 48 ? 48 : fitting > 336 ? 336 : fitting) / 48 * 48;
  for (long long p = begin; p < end; p += chunk) {
    long long last = p + chunk < end ? p + chunk : end;
    if (end - last < 16) last = end;  // no crumbs
    each_tile(a, [&](Tile const& t, int vectors) LEYOLO_LAMBDA { pixels(vectors, a, t, p, last); });
    if (last == end) return;
  }
}

// k x k: output rows [begin, end).
extern void conv2d_bf16_rows(Conv2dBf16Args const& a, long long begin, long long end) {
  long long const p = a.padding, k = a.kernel, s = a.stride;
  // Output columns whose taps all lie inside the image.
  long long const inner_begin = (p + s - 1) / s < a.out_width ? (p + s - 1) / s : a.out_width;
  long long const fit = a.width + p - k >= 0 ? (a.width + p - k) / s + 1 : 0;
  long long const inner_end = fit > a.out_width ? a.out_width : fit < inner_begin ? inner_begin : fit;
  for (long long row = begin; row < end; ++row) {
    long long const top = row * s - p, skip_top = top < 0 ? -top : 0;
    long long const rows = (top + k > a.height ? a.height - top : k) - skip_top;
    each_tile(a, [&](Tile t, int vectors) LEYOLO_LAMBDA {
      long long const per_tap = static_cast<long long>((a.in_channels + 1) / 2) * vectors * kLanes;
      t.weight += skip_top * k * per_tap;
      t.x += (top + skip_top) * a.width * a.x_pitch - p * a.x_pitch;
      t.y = advance(a, t.y, row * a.out_width * a.y_pitch);
      if (t.residual) t.residual += row * a.out_width * a.residual_pitch;
      t.rows = rows > 0 ? static_cast<int>(rows) : 0;
      auto const edge = [&](long long column) LEYOLO_LAMBDA {
        long long const left = column * s - p, skip_left = left < 0 ? -left : 0;
        Tile e = t;
        e.x += skip_left * a.x_pitch;
        e.weight += skip_left * per_tap;
        long long const columns = (left + k > a.width ? a.width - left : k) - skip_left;
        e.columns = columns > 0 ? static_cast<int>(columns) : 0;
        pixels(vectors, a, e, column, column + 1);
      };
      for (long long column = 0; column < inner_begin; ++column) edge(column);
      if (inner_begin < inner_end) pixels(vectors, a, t, inner_begin, inner_end);
      for (long long column = inner_end; column < a.out_width; ++column) edge(column);
    });
  }
}

}  // namespace leyolo::LEYOLO_ISA

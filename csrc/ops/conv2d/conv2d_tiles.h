// Dense convolution as register tiles of MR pixels x NV vectors of output channels: from images and rows to tiles, for
// every storage type. 1x1 convolutions see the image as one long row.
//
// A kernel K has the types Args, X (of the maps), W (of packed weights) and Y (of the output), and
//   kPixels<NV>                       the height of its tiles
//   run<MR, NV, STEP, ADDEND>(args, tile, pixel)  one tile; STEP as in run_pixels; pixel: where it is, for the addend
//   pixels<NV>(args, tile, begin, end)  run_pixels for the steps that are worth constants
//   tap_words(args)                   packed weights of one tap and output channel
//   chunk(args)                       pixels of a 1x1 convolution whose input stays in the first-level cache
//   at(args, y, values)               y, that many values on
#pragma once

#include "core/simd.h"
#include "ops/conv2d/conv2d_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

template <class K>
struct Tile {
  typename K::X const* x;       // first tap of the first pixel
  typename K::W const* weight;  // of this tile
  float const* bias;
  typename K::X const* residual;
  typename K::Y* y;
  typename K::X const* addend;  // of pixel 0
  int rows, columns;            // taps that lie inside the image ...
  int last_vector;              // channels of the tile's last vector
};

// The tile, p pixels on.
template <class K>
LEYOLO_INLINE Tile<K> moved(typename K::Args const& a, Tile<K> t, long long p) {
  t.x += p * a.stride * a.x_pitch;
  t.y = K::at(a, t.y, p * a.y_pitch);
  if (t.residual) t.residual += p * a.residual_pitch;
  return t;
}

// Pixels [begin, end) of one run whose taps all lie inside the image; the last tile overlaps the one before it.
// STEP: values from pixel to pixel in x where that is known (the addresses become constants, else each pixel of the
// tile needs a register), 0 where not.
template <class K, int NV, int STEP, bool ADDEND = false>
LEYOLO_INLINE void run_pixels(typename K::Args const& a, Tile<K> const& t, long long begin, long long end) {
  constexpr int MR = K::template kPixels<NV>;
  if (end - begin < MR) {
    for (long long p = begin; p < end; ++p) K::template run<1, NV, 0, ADDEND>(a, moved(a, t, p), p);
    return;
  }
  for (long long p = begin; p < end; p += MR) {
    long long const first = p + MR <= end ? p : end - MR;
    K::template run<MR, NV, STEP, ADDEND>(a, moved(a, t, first), first);
  }
}

// Where MR pixels from `first` on find their addends.
template <class K, int MR>
LEYOLO_INLINE void find_addends(typename K::Args const& a, Tile<K> const& t, long long first,
                                typename K::X const* (&at)[MR]) {
  long long row = first / a.out_width, column = first % a.out_width;
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
    at[m] = t.addend + ((row >> 1) * (a.out_width >> 1) + (column >> 1)) * a.addend_pitch;
    if (++column == a.out_width) ++row, column = 0;
  }
}

// Kept apart, else GCC allocates registers for all widths at once.
template <class K, int NV>
__attribute__((noinline)) void pixels_of(typename K::Args const& a, Tile<K> const& t, long long begin, long long end) {
  K::template pixels<NV>(a, t, begin, end);
}

template <class K>
void pixels(int vectors, typename K::Args const& a, Tile<K> const& t, long long begin, long long end) {
  switch (vectors) {
    case 1: return pixels_of<K, 1>(a, t, begin, end);
    case 2: return pixels_of<K, 2>(a, t, begin, end);
#if LEYOLO_LANES > 4 || LEYOLO_REGISTERS > 16
    case 3: return pixels_of<K, 3>(a, t, begin, end);
#endif
#if LEYOLO_REGISTERS > 16
    case 4: return pixels_of<K, 4>(a, t, begin, end);
#endif
  }
}

// Calls f(tile, vectors) for every tile of output channels.
template <class K, class F>
LEYOLO_INLINE void each_tile(typename K::Args const& a, F f) {
  Conv2dTiles const tiles = Conv2dTiles::of(a.out_channels, kLanes);
  typename K::W const* weight = a.weight;
  int channel = 0;
  typename K::X const* addend = nullptr;
  if constexpr (requires { a.addend; }) addend = a.addend;
  for (int i = 0; i < tiles.count; ++i) {
    int const vectors = tiles.width(i), rest = a.out_channels - channel;
    f(Tile<K>{a.x, weight, a.bias + channel, a.residual ? a.residual + channel : nullptr, K::at(a, a.y, channel),
              addend ? addend + channel : nullptr, a.kernel, a.kernel,
              rest >= vectors * kLanes ? kLanes : rest - (vectors - 1) * kLanes},
      vectors);
    weight += static_cast<long long>(a.kernel) * a.kernel * K::tap_words(a) * vectors * kLanes;
    channel += vectors * kLanes;
  }
}

// 1x1, stride 1: pixels [begin, end) of the flattened image.
template <class K>
LEYOLO_INLINE void pointwise_pixels(typename K::Args const& a, long long begin, long long end) {
  // The input of a chunk stays in L1/L2 while the tiles' weights pass over it; a multiple of all tile heights.
  long long const fitting = K::chunk(a);
  long long const chunk = (fitting < 48 ? 48 : fitting > 336 ? 336 : fitting) / 48 * 48;
  for (long long p = begin; p < end; p += chunk) {
    long long last = p + chunk < end ? p + chunk : end;
    if (end - last < 16) last = end;  // no crumbs
    each_tile<K>(a, [&](Tile<K> const& t, int vectors) LEYOLO_LAMBDA { pixels<K>(vectors, a, t, p, last); });
    if (last == end) return;
  }
}

// k x k: output rows [begin, end).
template <class K>
LEYOLO_INLINE void window_rows(typename K::Args const& a, long long begin, long long end) {
  long long const p = a.padding, k = a.kernel, s = a.stride;
  // Output columns whose taps all lie inside the image.
  long long const inner_begin = (p + s - 1) / s < a.out_width ? (p + s - 1) / s : a.out_width;
  long long const fit = a.width + p - k >= 0 ? (a.width + p - k) / s + 1 : 0;
  long long const inner_end = fit > a.out_width ? a.out_width : fit < inner_begin ? inner_begin : fit;
  for (long long row = begin; row < end; ++row) {
    long long const top = row * s - p, skip_top = top < 0 ? -top : 0;
    long long const rows = (top + k > a.height ? a.height - top : k) - skip_top;
    each_tile<K>(a, [&](Tile<K> t, int vectors) LEYOLO_LAMBDA {
      long long const per_tap = K::tap_words(a) * vectors * kLanes;
      t.weight += skip_top * k * per_tap;
      t.x += (top + skip_top) * a.width * a.x_pitch - p * a.x_pitch;
      t.y = K::at(a, t.y, row * a.out_width * a.y_pitch);
      if (t.residual) t.residual += row * a.out_width * a.residual_pitch;
      t.rows = rows > 0 ? static_cast<int>(rows) : 0;
      auto const edge = [&](long long column) LEYOLO_LAMBDA {
        long long const left = column * s - p, skip_left = left < 0 ? -left : 0;
        Tile<K> e = t;
        e.x += skip_left * a.x_pitch;
        e.weight += skip_left * per_tap;
        long long const columns = (left + k > a.width ? a.width - left : k) - skip_left;
        e.columns = columns > 0 ? static_cast<int>(columns) : 0;
        pixels<K>(vectors, a, e, column, column + 1);
      };
      for (long long column = 0; column < inner_begin; ++column) edge(column);
      if (inner_begin < inner_end) pixels<K>(vectors, a, t, inner_begin, inner_end);
      for (long long column = inner_end; column < a.out_width; ++column) edge(column);
    });
  }
}

}  // namespace

}  // namespace leyolo::LEYOLO_ISA

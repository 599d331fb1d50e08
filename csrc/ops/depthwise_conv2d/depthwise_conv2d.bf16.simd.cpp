// Depthwise convolution of bfloat16 maps: strips of output pixels x one vector of channels, as in
// depthwise_conv2d.simd.cpp, on dot products of two neighbouring pixels.
#include "core/bf16_simd.h"
#include "ops/depthwise_conv2d/depthwise_bf16_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

constexpr int kStrip = 10;

// One output row: the tap rows inside the image, as pointers to channel 0 of pixel 0.
struct Row {
  uint16_t const* x;
  void* y;
  int skip, taps;   // tap rows above the image, and inside
  long long first;  // input row of the first tap row inside
};

// Channels of one pixel: one vector, or two whose pairs come in the order of the unpack instructions, which are cheaper
// than a permutation: weights and biases lie in the same order (DepthwiseBf16Blocks).
template <int V, bool TAIL>
LEYOLO_INLINE auto load_channels(uint16_t const* p, int count) {
  if constexpr (V == 2)
    return TAIL ? _mm512_maskz_loadu_epi16(0xffffffffu >> (32 - count), p) : _mm512_loadu_si512(p);
  else
    return TAIL ? load_half_part(p, count) : load_half(p);
}

LEYOLO_INLINE void interleave(__m512i left, __m512i right, vu (&pairs)[2]) {
  pairs[0] = reinterpret_cast<vu>(_mm512_unpacklo_epi16(left, right));
  pairs[1] = reinterpret_cast<vu>(_mm512_unpackhi_epi16(left, right));
}
LEYOLO_INLINE void interleave(__m256i left, __m256i right, vu (&pairs)[1]) { pairs[0] = interleave(left, right); }

template <bool TAIL>
LEYOLO_INLINE void store_channels(uint16_t* p, vf const (&v)[2], int count) {
  __m512i const order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  __m512i const y = _mm512_permutexvar_epi64(order, narrow_two(v[0], v[1]));
  if constexpr (TAIL)
    _mm512_mask_storeu_epi16(p, 0xffffffffu >> (32 - count), y);
  else
    _mm512_storeu_si512(p, y);
}
template <bool TAIL>
LEYOLO_INLINE void store_channels(uint16_t* p, vf const (&v)[1], int count) {
  if constexpr (TAIL)
    store_half_part(p, narrow(v[0]), count);
  else
    store_half(p, narrow(v[0]));
}
template <bool TAIL>
LEYOLO_INLINE void store_channels(float* p, vf const (&v)[1], int count) {
  if constexpr (TAIL)
    store_part(p, v[0], count);
  else
    store(p, v[0]);
}
template <bool TAIL>
LEYOLO_INLINE void store_channels(float* p, vf const (&v)[2], int count) {
  __m512d const a = reinterpret_cast<__m512d>(v[0]), b = reinterpret_cast<__m512d>(v[1]);
  __m512i const first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  store(p, reinterpret_cast<vf>(_mm512_permutex2var_pd(a, first, b)));
  vf const rest[1] = {reinterpret_cast<vf>(_mm512_permutex2var_pd(a, second, b))};
  store_channels<TAIL>(p + kLanes, rest, count - kLanes);
}

// Values from r.x to the input row of its tap row `ky`.
template <bool UP>
LEYOLO_INLINE long long input_row(DepthwiseBf16Args const& a, Row const& r, int ky) {
  return (((r.first + ky) >> UP) - (r.first >> UP)) * (a.width >> UP) * a.x_pitch;
}

// A pair of neighbouring pixels meets a pair of neighbouring taps. The last of the K taps is the second of a pair whose
// first has weight zero, so that no pixel outside the window is looked at.
// CHECK: some input columns lie outside the image. UP: the input lies at half its size (DepthwiseBf16Low). S > 1: the
// column is even, so that with a padding of 1 the pixels of an upsampled map follow one another as 0, 1, 1, 2, 2, ...
template <int K, int STRIDE, int S, bool CHECK, int V, bool TAIL, bool UP>
LEYOLO_INLINE void strip(DepthwiseBf16Args const& a, Row const& r, long long column, int channel, int count) {
  constexpr int kPairs = (K + 1) / 2;
  vf acc[S][V];
#pragma GCC unroll 32
  for (int i = 0; i < S; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) acc[i][v] = vf{};
  long long const first = column * STRIDE - a.padding;
  uint32_t const* w = a.weight + (static_cast<long long>(channel) * K + r.skip * V * kLanes) * kPairs;
  for (int ky = 0; ky < r.taps; ++ky, w += kPairs * V * kLanes) {
    uint16_t const* x = r.x + input_row<UP>(a, r, ky) + (first >> UP) * a.x_pitch + channel;
    vu weight[kPairs][V];
#pragma GCC unroll 16
    for (int m = 0; m < kPairs; ++m)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) weight[m][v] = *reinterpret_cast<vu_loose const*>(w + (m * V + v) * kLanes);
    auto const pixel = [&](int j) LEYOLO_LAMBDA {
      using Pixel = decltype(load_channels<V, TAIL>(x, count));
      bool const outside = CHECK && (first + j < 0 || first + j >= a.width);
      int const step = UP && S > 1 ? (j + 1) / 2 : UP ? static_cast<int>(((first + j) >> 1) - (first >> 1)) : j;
      return outside ? Pixel{} : load_channels<V, TAIL>(x + step * a.x_pitch, count);
    };
    auto left = pixel(0);
#pragma GCC unroll 64
    for (int j = 0; j < (S - 1) * STRIDE + K - 1; ++j) {
      auto const right = pixel(j + 1);
      vu pair[V];
      interleave(left, right, pair);
#pragma GCC unroll 32
      for (int i = 0; i < S; ++i) {
        int const tap = j - i * STRIDE;
        if ((tap >= 0 && tap < K - 2 && tap % 2 == 0) || tap == K - 2)
#pragma GCC unroll 2
          for (int v = 0; v < V; ++v)
            acc[i][v] = dot(acc[i][v], pair[v], weight[tap == K - 2 ? kPairs - 1 : tap / 2][v]);
      }
      left = right;
    }
  }
  // Last, not as the start of the sum: small products would be rounded at the size of a large bias.
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    vf const bias = load(a.bias + channel + v * kLanes);
#pragma GCC unroll 32
    for (int i = 0; i < S; ++i) acc[i][v] += bias;
  }
  if (a.activation == Activation::silu) {
#pragma GCC unroll 32
    for (int i = 0; i < S; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[i][v] = silu_scaled(acc[i][v]);
  } else if (a.activation != Activation::none) {
#pragma GCC unroll 32
    for (int i = 0; i < S; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[i][v] = other_activation(a.activation, acc[i][v]);
  }
  long long const y_pitch = a.y_pitch, at = column * y_pitch + channel;
  if (a.float_y) {
#pragma GCC unroll 32
    for (int i = 0; i < S; ++i) store_channels<TAIL>(static_cast<float*>(r.y) + at + i * y_pitch, acc[i], count);
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < S; ++i) store_channels<TAIL>(static_cast<uint16_t*>(r.y) + at + i * y_pitch, acc[i], count);
  }
}

template <int K, int STRIDE, int S, bool CHECK, bool UP>
LEYOLO_INLINE void all_channels(DepthwiseBf16Args const& a, Row const& r, long long column) {
  int channel = 0;
  for (; channel + 2 * kLanes <= a.channels; channel += 2 * kLanes)
    strip<K, STRIDE, S, CHECK, 2, false, UP>(a, r, column, channel, 2 * kLanes);
  int const rest = a.channels - channel;
  if (rest > kLanes)
    strip<K, STRIDE, S, CHECK, 2, true, UP>(a, r, column, channel, rest);
  else if (rest == kLanes)
    strip<K, STRIDE, S, CHECK, 1, false, UP>(a, r, column, channel, rest);
  else if (rest > 0)
    strip<K, STRIDE, S, CHECK, 1, true, UP>(a, r, column, channel, rest);
}

template <int K, int STRIDE, bool UP = false>
LEYOLO_INLINE void row_of(DepthwiseBf16Args const& a, Row const& r) {
  if (a.out_width < kStrip) {
    for (long long c = 0; c < a.out_width; ++c) all_channels<K, STRIDE, 1, true, UP>(a, r, c);
    return;
  }
  for (long long c = 0; c < a.out_width; c += kStrip) {
    long long const at = c + kStrip <= a.out_width ? c : a.out_width - kStrip;  // the last strip overlaps
    long long const first = at * STRIDE - a.padding, last = first + (kStrip - 1) * STRIDE + K;
    if (first >= 0 && last <= a.width)
      all_channels<K, STRIDE, kStrip, false, UP>(a, r, at);
    else
      all_channels<K, STRIDE, kStrip, true, UP>(a, r, at);
  }
}

// Any kernel and stride: one output pixel at a time.
template <int V, bool UP>
LEYOLO_INLINE void pixel_any(DepthwiseBf16Args const& a, Row const& r, long long column, int channel) {
  int const pairs = (a.kernel + 1) / 2, left = a.channels - channel, count = left < V * kLanes ? left : V * kLanes;
  uint32_t const* w = a.weight + (static_cast<long long>(channel) * a.kernel + r.skip * V * kLanes) * pairs;
  vf acc[V] = {};
  for (int ky = 0; ky < r.taps; ++ky)
    for (int kx = 0; kx < a.kernel; ++kx) {
      long long const x = column * a.stride - a.padding + kx;
      if (x < 0 || x >= a.width) continue;
      auto const pixel = load_channels<V, true>(r.x + input_row<UP>(a, r, ky) + (x >> UP) * a.x_pitch + channel, count);
      decltype(pixel) const zero{};
      vu pair[V];
      if (kx % 2 == 1 || kx == a.kernel - 1)
        interleave(zero, pixel, pair);
      else
        interleave(pixel, zero, pair);
      for (int v = 0; v < V; ++v)
        acc[v] = dot(acc[v], pair[v], *reinterpret_cast<vu_loose const*>(w + ((ky * pairs + kx / 2) * V + v) * kLanes));
    }
  for (int v = 0; v < V; ++v) {
    acc[v] += load(a.bias + channel + v * kLanes);
    acc[v] = a.activation == Activation::silu ? silu_scaled(acc[v]) : activate(a.activation, acc[v]);
  }
  long long const at = column * a.y_pitch + channel;
  if (a.float_y)
    store_channels<true>(static_cast<float*>(r.y) + at, acc, count);
  else
    store_channels<true>(static_cast<uint16_t*>(r.y) + at, acc, count);
}

template <bool UP>
__attribute__((noinline)) void row_any(DepthwiseBf16Args const& a, Row const& r) {
  for (long long c = 0; c < a.out_width; ++c)
    for (int channel = 0, block; channel < a.channels; channel += block) {
      block = DepthwiseBf16Blocks::size(a.channels - channel);
      if (block == 2 * kLanes)
        pixel_any<2, UP>(a, r, c, channel);
      else
        pixel_any<1, UP>(a, r, c, channel);
    }
}

#define LEYOLO_ROW(K, STRIDE)                                                                   \
  __attribute__((noinline)) void row_##K##_##STRIDE(DepthwiseBf16Args const& a, Row const& r) { \
    row_of<K, STRIDE>(a, r);                                                                    \
  }
LEYOLO_ROW(3, 1)
LEYOLO_ROW(3, 2)
LEYOLO_ROW(5, 1)
LEYOLO_ROW(5, 2)
LEYOLO_ROW(7, 1)
LEYOLO_ROW(7, 2)
__attribute__((noinline)) void row_upsampled(DepthwiseBf16Args const& a, Row const& r) { row_of<3, 1, true>(a, r); }

using RowFunction = void (*)(DepthwiseBf16Args const&, Row const&);

RowFunction row_function(DepthwiseBf16Args const& a) {
  if (a.stride == 1) {
    if (a.kernel == 3) return row_3_1;
    if (a.kernel == 5) return row_5_1;
    if (a.kernel == 7) return row_7_1;
  }
  if (a.stride == 2) {
    if (a.kernel == 3) return row_3_2;
    if (a.kernel == 5) return row_5_2;
    if (a.kernel == 7) return row_7_2;
  }
  return row_any<false>;
}

// Output rows [begin, end), without `low`.
template <bool UP>
void run_rows(DepthwiseBf16Args const& a, RowFunction run, long long begin, long long end) {
  for (long long row = begin; row < end; ++row) {
    long long const top = row * a.stride - a.padding;
    int const skip = top < 0 ? static_cast<int>(-top) : 0;
    long long const inside = top + a.kernel > a.height ? a.height - top - skip : a.kernel - skip;
    long long const y_bytes = row * a.out_width * a.y_pitch * (a.float_y ? 4 : 2);
    run(a, {a.x + ((top + skip) >> UP) * (a.width >> UP) * a.x_pitch, static_cast<char*>(a.y) + y_bytes, skip,
            inside > 0 ? static_cast<int>(inside) : 0, top + skip});
  }
}

}  // namespace

// Output rows [begin, end).
extern void depthwise_bf16_rows(DepthwiseBf16Args const& all, long long begin, long long end) {
  if (!all.low.x) return run_rows<false>(all, row_function(all), begin, end);
  DepthwiseBf16Args a = all;
  a.y = static_cast<char*>(all.y) + all.low.channels * (all.float_y ? 4 : 2);
  run_rows<false>(a, row_function(a), begin, end);
  a.y = all.y;
  a.x = all.low.x, a.weight = all.low.weight, a.bias = all.low.bias;
  a.x_pitch = all.low.pitch, a.channels = all.low.channels;
  run_rows<true>(a, a.kernel == 3 && a.stride == 1 ? row_upsampled : row_any<true>, begin, end);
}

}  // namespace leyolo::LEYOLO_ISA

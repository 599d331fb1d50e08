// Depthwise convolution: tiles of ROWS output rows x S output pixels x one vector of channels. Each input vector is
// loaded once and used for every output of the tile that it touches. The sums of an output run over the taps row by row
// whatever tile it falls into.
#include "ops/depthwise_conv2d/depthwise_conv2d_simd.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Two rows of accumulators, two rows of weights of a 5x5 kernel and one input vector fill 32 registers; of 16 they
// leave none, and the weights come from the L1 cache. The narrow strip is for what the wide one does not divide.
constexpr int kStrip = kRegisters == 32 ? 10 : 5, kNarrow = 5;

// Rows of a tile: a second one pays where the compiler can multiply and add by a weight that lies in memory.
constexpr int kRows = kRegisters == 32 || kLanes == 8 ? 2 : 1;

// Outputs that are activated together.
constexpr int kBatch = kLanes == 8 ? 1 : 5;

// Whether a tile prefetches the next one during its activation, which leaves the caches idle: with stride 2 more lines
// are read for an output than the L2 cache delivers while its taps are summed. Only where a vector is a whole line.
template <int STRIDE>
constexpr bool kPrefetch = STRIDE == 2 && kLanes == 16;

// Output rows that are made together.
struct Rows {
  float const* x;  // input row that tap row `first` of the first output row reads, channel 0 of pixel 0
  float* y;
  long long top;    // input row of tap row 0
  int first, last;  // tap rows of the first output row, counted on into the rows below it, that lie inside the image
};

// Out of line: rare, and unrolled it would only crowd the instruction cache.
__attribute__((noinline)) vf other_activation(Activation a, vf x) { return activate(a, x); }

// Weights lie per vector of channels, all its taps together: constant offsets in the inner loop. `ahead`: floats from
// here to the input of the next tile. UP: the input lies at half its size (DepthwiseLow); ODD: of that the leftmost
// column is odd.
template <int K, int STRIDE, int ROWS, int S, bool TAIL, bool UP, bool ODD>
LEYOLO_INLINE void tile(DepthwiseArgs const& a, Rows const& r, long long column, int channel, int count,
                        long long ahead) {
  constexpr int kColumns = (S - 1) * STRIDE + K;
  // Copies: stores of floats might change what is read through a reference.
  long long const x_pitch = a.x_pitch, x_row = (a.width >> UP) * x_pitch, y_pitch = a.y_pitch,
                  y_row = a.out_width * y_pitch;
  long long const left = column * STRIDE - a.padding_w;
  // With a padding of at most half the kernel only the outermost columns can lie outside the image.
  bool inside[kColumns];
#pragma GCC unroll 32
  for (int j = 0; j < kColumns; ++j)
    inside[j] = (j >= K / 2 || left + j >= 0) && (j < kColumns - K / 2 || left + j < a.width);
  float const* const w = a.weight + static_cast<long long>(channel) * K * K;
  float const* const corner = r.x + (left >> UP) * x_pitch + channel;
  float const* x = corner;
  vf acc[ROWS][S];
#pragma GCC unroll 16
  for (int q = 0; q < ROWS; ++q)
#pragma GCC unroll 16
    for (int i = 0; i < S; ++i) acc[q][i] = vf{};
#pragma GCC unroll 16
  for (int ky = 0; ky < (ROWS - 1) * STRIDE + K; ++ky) {
    if (ky < r.first || ky >= r.last) continue;
    vf weight[ROWS][K];
#pragma GCC unroll 16
    for (int q = 0; q < ROWS; ++q)
#pragma GCC unroll 16
      for (int kx = 0; kx < K; ++kx)
        if (ky >= q * STRIDE && ky < q * STRIDE + K) weight[q][kx] = load(w + ((ky - q * STRIDE) * K + kx) * kLanes);
    float const* p = x;
    vf value{};
#pragma GCC unroll 32
    for (int j = 0; j < kColumns; ++j) {
      bool const again = UP && (j + ODD) % 2 == 1;  // the same pixel as the column before, unless there is none
      if (j > 0 && !again) p += x_pitch;
      if (!inside[j]) continue;
      // Pinned again, or GCC shares its products and adds them: not the fused multiply-adds of every other tile.
      value = pinned(j > 0 && again ? value : load_channels<TAIL>(p, count));
#pragma GCC unroll 16
      for (int q = 0; q < ROWS; ++q)
#pragma GCC unroll 16
        for (int i = 0; i < S; ++i)
          if (ky >= q * STRIDE && ky < q * STRIDE + K && j >= i * STRIDE && j < i * STRIDE + K)
            acc[q][i] += value * weight[q][j - i * STRIDE];
    }
    if (!UP || (r.top + ky) % 2 != 0) x += x_row;
  }
  // Last, not as the start of the sum: small products would be rounded at the size of a large bias.
  vf const bias = load(a.bias + channel);
  float* const to = r.y + column * y_pitch + channel;
  if (a.activation == Activation::silu) {
#pragma GCC unroll 16
    for (int n = 0; n < ROWS * S; n += kBatch) {
      if constexpr (kPrefetch<STRIDE>) {
        constexpr int kLines = ((ROWS - 1) * STRIDE + K) * kColumns;
#pragma GCC unroll 128
        for (int line = n * kLines / (ROWS * S); line < (n + kBatch) * kLines / (ROWS * S); ++line)
          __builtin_prefetch(corner + ahead + line / kColumns * x_row + line % kColumns * x_pitch);
      }
      vf out[kBatch];
#pragma GCC unroll 16
      for (int i = 0; i < kBatch; ++i) out[i] = acc[(n + i) / S][(n + i) % S] + bias;
      silu_each(out);
#pragma GCC unroll 16
      for (int i = 0; i < kBatch; ++i)
        store_channels<TAIL>(to + (n + i) / S * y_row + (n + i) % S * y_pitch, out[i], count);
    }
  } else {
#pragma GCC unroll 32
    for (int n = 0; n < ROWS * S; ++n) {
      vf out = acc[n / S][n % S] + bias;
      if (a.activation != Activation::none) out = other_activation(a.activation, out);
      store_channels<TAIL>(to + n / S * y_row + n % S * y_pitch, out, count);
    }
  }
}

template <int K, int STRIDE, int ROWS, int S, bool UP, bool ODD>
LEYOLO_INLINE void all_channels(DepthwiseArgs const& a, Rows const& r, long long column) {
  long long const next = S * STRIDE * a.x_pitch;
  int channel = 0;
  for (; channel + kLanes <= a.channels; channel += kLanes)
    tile<K, STRIDE, ROWS, S, false, UP, ODD>(a, r, column, channel, kLanes,
                                             channel + kLanes < a.channels ? kLanes : next - channel);
  if (channel < a.channels)
    tile<K, STRIDE, ROWS, S, true, UP, ODD>(a, r, column, channel, a.channels - channel, next - channel);
}

// Strips of one or two rows; those that would stick out overlap the ones before them.
template <int K, int STRIDE, int ROWS, bool UP>
__attribute__((noinline)) void tiles(DepthwiseArgs const& a, Rows const& r) {
  for (long long c = 0; c < a.out_width;) {
    bool const wide = kStrip > kNarrow && a.out_width - c > kNarrow && a.out_width >= kStrip;
    int const strip = wide ? kStrip : kNarrow;
    if (c + strip > a.out_width) c = a.out_width - strip;
    bool const odd = UP && (c * STRIDE - a.padding_w) % 2 != 0;
    if (wide)
      odd ? all_channels<K, STRIDE, ROWS, kStrip, UP, UP>(a, r, c)
          : all_channels<K, STRIDE, ROWS, kStrip, UP, false>(a, r, c);
    else
      odd ? all_channels<K, STRIDE, ROWS, kNarrow, UP, UP>(a, r, c)
          : all_channels<K, STRIDE, ROWS, kNarrow, UP, false>(a, r, c);
    c += strip;
  }
}

template <bool UP>
Rows rows_at(DepthwiseArgs const& a, long long row, int rows) {
  long long const top = row * a.stride_h - a.padding_h, taps = a.kernel_h + (rows - 1) * a.stride_h;
  long long const first = top < 0 ? (-top < taps ? -top : taps) : 0;
  long long const last = a.height - top < taps ? a.height - top : taps;
  return {a.x + ((top + first) >> UP) * (a.width >> UP) * a.x_pitch, a.y + row * a.out_width * a.y_pitch, top,
          static_cast<int>(first), static_cast<int>(last)};
}

template <int K, int STRIDE, bool UP = false>
void square(DepthwiseArgs const& a, long long begin, long long end) {
  long long row = begin;
  if (a.stride_h == STRIDE)
    for (; row + kRows <= end; row += kRows) tiles<K, STRIDE, kRows, UP>(a, rows_at<UP>(a, row, kRows));
  for (; row < end; ++row) tiles<K, STRIDE, 1, UP>(a, rows_at<UP>(a, row, 1));
}

// Any kernel, stride and dilation: one output pixel at a time.
template <bool UP>
void any(DepthwiseArgs const& a, long long begin, long long end) {
  for (long long row = begin; row < end; ++row)
    for (long long column = 0; column < a.out_width; ++column)
      for (int channel = 0; channel < a.channels; channel += kLanes) {
        int const count = a.channels - channel < kLanes ? a.channels - channel : kLanes;
        vf acc{};
        for (int ky = 0; ky < a.kernel_h; ++ky) {
          long long const y = row * a.stride_h - a.padding_h + ky * a.dilation_h;
          if (y < 0 || y >= a.height) continue;
          for (int kx = 0; kx < a.kernel_w; ++kx) {
            long long const x = column * a.stride_w - a.padding_w + kx * a.dilation_w;
            if (x < 0 || x >= a.width) continue;
            acc += load_part(a.x + ((y >> UP) * (a.width >> UP) + (x >> UP)) * a.x_pitch + channel, count) *
                   load(tap(a, a.weight, channel, ky, kx));
          }
        }
        store_part(a.y + (row * a.out_width + column) * a.y_pitch + channel,
                   activate(a.activation, acc + load(a.bias + channel)), count);
      }
}

// Output rows [begin, end), without `low`.
template <bool UP>
void run_rows(DepthwiseArgs const& a, long long begin, long long end) {
  bool const tiled = a.kernel_h == a.kernel_w && a.dilation_h == 1 && a.dilation_w == 1 &&
                     2 * a.padding_w <= a.kernel_w && a.out_width >= kNarrow;
  int const kind = tiled ? 10 * a.kernel_w + a.stride_w : 0;
  if constexpr (UP) return kind == 31 ? square<3, 1, true>(a, begin, end) : any<true>(a, begin, end);
  switch (kind) {
    case 31: return square<3, 1>(a, begin, end);
    case 32: return square<3, 2>(a, begin, end);
    case 51: return square<5, 1>(a, begin, end);
    case 52: return square<5, 2>(a, begin, end);
    case 71: return square<7, 1>(a, begin, end);
    case 72: return square<7, 2>(a, begin, end);
    default: return any<false>(a, begin, end);
  }
}

}  // namespace

// Pixels of one row of a register tile, which is one vector wide.
extern int depthwise_tile_pixels(long long out_width) {
  return out_width >= kStrip ? kStrip : out_width >= kNarrow ? kNarrow : 1;
}

// Output rows [begin, end).
extern void depthwise_rows(DepthwiseArgs const& all, long long begin, long long end) {
  if (!all.low.x) return run_rows<false>(all, begin, end);
  DepthwiseArgs a = all;
  a.y += all.low.channels;
  run_rows<false>(a, begin, end);
  a.y = all.y;
  a.x = all.low.x, a.weight = all.low.weight, a.bias = all.low.bias;
  a.x_pitch = all.low.pitch, a.channels = all.low.channels;
  run_rows<true>(a, begin, end);
}

}  // namespace leyolo::LEYOLO_ISA

// Depthwise convolution: strips of S output pixels x one vector of channels. Each input vector of a row is loaded once
// and used for every output of the strip that it touches.
#include "core/simd.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Accumulators, one row of weights and one input vector fill the registers.
constexpr int kStrip = kRegisters == 32 ? 10 : 5;

template <bool TAIL>
LEYOLO_INLINE vf load_channels(float const* p, int count) {
  if constexpr (TAIL)
    return load_part(p, count);
  else
    return load(p);
}

template <bool TAIL>
LEYOLO_INLINE void store_channels(float* p, vf v, int count) {
  if constexpr (TAIL)
    store_part(p, v, count);
  else
    store(p, v);
}

// One output row: the tap rows inside the image, as pointers to channel 0 of pixel 0.
struct Row {
  float const* x;
  float const* weight;  // of the first tap row, first vector of channels
  float* y;
  int taps;
};

// Weights lie per vector of channels, all its taps together: constant offsets in the inner loop.
// CHECK: some input columns lie outside the image.
template <int K, int STRIDE, int S, bool CHECK, bool TAIL>
LEYOLO_INLINE void strip(DepthwiseArgs const& a, Row const& r, long long column, int channel, int count) {
  vf acc[S];
#pragma GCC unroll 16
  for (int i = 0; i < S; ++i) acc[i] = vf{};
  long long const first = column * STRIDE - a.padding_w;
  float const* w = r.weight + static_cast<long long>(channel) * K * K;
  for (int ky = 0; ky < r.taps; ++ky, w += K * kLanes) {
    float const* x = r.x + (ky * a.width + first) * a.x_pitch + channel;
    vf weight[K];
#pragma GCC unroll 16
    for (int kx = 0; kx < K; ++kx) weight[kx] = load(w + kx * kLanes);
#pragma GCC unroll 32
    for (int j = 0; j < (S - 1) * STRIDE + K; ++j, x += a.x_pitch) {
      if (CHECK && (first + j < 0 || first + j >= a.width)) continue;
      vf const value = pinned(load_channels<TAIL>(x, count));
#pragma GCC unroll 16
      for (int i = 0; i < S; ++i)
        if (j - i * STRIDE >= 0 && j - i * STRIDE < K) acc[i] += value * weight[j - i * STRIDE];
    }
  }
  // Last, not as the start of the sum: small products would be rounded at the size of a large bias.
  vf const bias = load(a.bias + channel);
#pragma GCC unroll 16
  for (int i = 0; i < S; ++i) acc[i] += bias;
  if (a.activation == Activation::silu) {
#pragma GCC unroll 16
    for (int i = 0; i < S; ++i) acc[i] = silu(acc[i]);
  } else if (a.activation != Activation::none) {
    for (int i = 0; i < S; ++i) acc[i] = activate(a.activation, acc[i]);
  }
  float* y = r.y + column * a.y_pitch + channel;
#pragma GCC unroll 16
  for (int i = 0; i < S; ++i, y += a.y_pitch) store_channels<TAIL>(y, acc[i], count);
}

template <int K, int STRIDE, int S, bool CHECK>
LEYOLO_INLINE void all_channels(DepthwiseArgs const& a, Row const& r, long long column) {
  int channel = 0;
  for (; channel + kLanes <= a.channels; channel += kLanes)
    strip<K, STRIDE, S, CHECK, false>(a, r, column, channel, kLanes);
  if (channel < a.channels) strip<K, STRIDE, S, CHECK, true>(a, r, column, channel, a.channels - channel);
}

template <int K, int STRIDE>
LEYOLO_INLINE void row_of(DepthwiseArgs const& a, Row const& r) {
  if (a.out_width < kStrip) {
    for (long long c = 0; c < a.out_width; ++c) all_channels<K, STRIDE, 1, true>(a, r, c);
    return;
  }
  for (long long c = 0; c < a.out_width; c += kStrip) {
    long long const at = c + kStrip <= a.out_width ? c : a.out_width - kStrip;  // the last strip overlaps
    long long const first = at * STRIDE - a.padding_w, last = first + (kStrip - 1) * STRIDE + K;
    if (first >= 0 && last <= a.width)
      all_channels<K, STRIDE, kStrip, false>(a, r, at);
    else
      all_channels<K, STRIDE, kStrip, true>(a, r, at);
  }
}

// Any kernel, stride and dilation: one output pixel at a time.
__attribute__((noinline)) void row_any(DepthwiseArgs const& a, Row const& r) {
  for (long long c = 0; c < a.out_width; ++c)
    for (int channel = 0; channel < a.channels; channel += kLanes) {
      int const count = a.channels - channel < kLanes ? a.channels - channel : kLanes;
      float const* w = r.weight + static_cast<long long>(channel) * a.kernel_h * a.kernel_w;
      vf acc{};
      for (int ky = 0; ky < r.taps; ++ky)
        for (int kx = 0; kx < a.kernel_w; ++kx, w += kLanes) {
          long long const column = c * a.stride_w - a.padding_w + kx * a.dilation_w;
          if (column < 0 || column >= a.width) continue;
          float const* x = r.x + (static_cast<long long>(ky) * a.dilation_h * a.width + column) * a.x_pitch + channel;
          acc += load_part(x, count) * load(w);
        }
      store_part(r.y + c * a.y_pitch + channel, activate(a.activation, acc + load(a.bias + channel)), count);
    }
}

#define LEYOLO_ROW(K, STRIDE) \
  __attribute__((noinline)) void row_##K##_##STRIDE(DepthwiseArgs const& a, Row const& r) { row_of<K, STRIDE>(a, r); }
LEYOLO_ROW(3, 1)
LEYOLO_ROW(3, 2)
LEYOLO_ROW(5, 1)
LEYOLO_ROW(5, 2)
LEYOLO_ROW(7, 1)
LEYOLO_ROW(7, 2)

template <class T>
LEYOLO_INLINE T* tap(DepthwiseArgs const& a, T* packed, int channel, int ky, int kx) {
  return packed + static_cast<long long>(channel) * a.kernel_h * a.kernel_w + (ky * a.kernel_w + kx) * kLanes;
}

using RowFunction = void (*)(DepthwiseArgs const&, Row const&);

RowFunction row_function(DepthwiseArgs const& a) {
  bool const square = a.kernel_h == a.kernel_w && a.dilation_h == 1 && a.dilation_w == 1;
  if (square && a.stride_w == 1) {
    if (a.kernel_w == 3) return row_3_1;
    if (a.kernel_w == 5) return row_5_1;
    if (a.kernel_w == 7) return row_7_1;
  }
  if (square && a.stride_w == 2) {
    if (a.kernel_w == 3) return row_3_2;
    if (a.kernel_w == 5) return row_5_2;
    if (a.kernel_w == 7) return row_7_2;
  }
  return row_any;
}

}  // namespace

// Pixels of a register tile, which is one vector wide.
extern int depthwise_tile_pixels() { return kStrip; }

// Output rows [begin, end).
extern void depthwise_rows(DepthwiseArgs const& a, long long begin, long long end) {
  RowFunction const function = row_function(a);
  for (long long row = begin; row < end; ++row) {
    long long const top = row * a.stride_h - a.padding_h;
    // Tap rows first .. last - 1 lie inside the image.
    long long const first = top < 0 ? (-top + a.dilation_h - 1) / a.dilation_h : 0;
    long long const fit = a.height - top > 0 ? (a.height - top + a.dilation_h - 1) / a.dilation_h : 0;
    long long const last = fit < a.kernel_h ? fit : a.kernel_h;
    function(a, {a.x + (top + first * a.dilation_h) * a.width * a.x_pitch, a.weight + first * a.kernel_w * kLanes,
                 a.y + row * a.out_width * a.y_pitch, last > first ? static_cast<int>(last - first) : 0});
  }
}

// pre = gradient * activation'(z), where z is the forward result without activation, already in `pre`; for count
// values.
extern void depthwise_pre_gradient(float const* gradient, float* pre, Activation activation, long long count) {
  for (long long i = 0; i < count; i += kLanes) {
    int const n = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
    vf const z = load_part(pre + i, n);
    store_part(pre + i, load_part(gradient + i, n) * activation_gradient(activation, z), n);
  }
}

// Gradient of x for input rows [begin, end): every input pixel gathers the outputs that it fed.
extern void depthwise_x_gradient(DepthwiseBackwardArgs const& b, long long begin, long long end) {
  DepthwiseArgs const& a = b.forward;
  for (long long row = begin; row < end; ++row)
    for (long long column = 0; column < a.width; ++column)
      for (int channel = 0; channel < a.channels; channel += kLanes) {
        int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
        vf acc{};
        for (int ky = 0; ky < a.kernel_h; ++ky) {
          long long const y = row + a.padding_h - ky * a.dilation_h;
          if (y < 0 || y % a.stride_h || y / a.stride_h >= a.out_height) continue;
          for (int kx = 0; kx < a.kernel_w; ++kx) {
            long long const x = column + a.padding_w - kx * a.dilation_w;
            if (x < 0 || x % a.stride_w || x / a.stride_w >= a.out_width) continue;
            long long const pixel = y / a.stride_h * a.out_width + x / a.stride_w;
            acc += load_part(b.pre + pixel * a.channels + channel, n) * load(tap(a, a.weight, channel, ky, kx));
          }
        }
        store_part(b.x_gradient + (row * a.width + column) * a.channels + channel, acc, n);
      }
}

// Gradients of weight and bias for the vectors [begin, end) of channels, added to what is there: one fixed order,
// whatever the number of threads.
extern void depthwise_weight_gradient(DepthwiseBackwardArgs const& b, long long begin, long long end) {
  DepthwiseArgs const& a = b.forward;
  for (long long block = begin; block < end; ++block) {
    int const channel = static_cast<int>(block) * kLanes;
    int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
    vf bias = load(b.bias_gradient + channel);
    for (long long p = 0; p < a.out_height * a.out_width; ++p) bias += load_part(b.pre + p * a.channels + channel, n);
    store(b.bias_gradient + channel, bias);
    for (int ky = 0; ky < a.kernel_h; ++ky)
      for (int kx = 0; kx < a.kernel_w; ++kx) {
        vf acc{};
        for (long long row = 0; row < a.out_height; ++row) {
          long long const y = row * a.stride_h - a.padding_h + ky * a.dilation_h;
          if (y < 0 || y >= a.height) continue;
          // Sums of one row first: shorter chains of roundings.
          vf part{};
          for (long long column = 0; column < a.out_width; ++column) {
            long long const x = column * a.stride_w - a.padding_w + kx * a.dilation_w;
            if (x < 0 || x >= a.width) continue;
            part += load_part(a.x + (y * a.width + x) * a.x_pitch + channel, n) *
                    load_part(b.pre + (row * a.out_width + column) * a.channels + channel, n);
          }
          acc += part;
        }
        float* w = tap(a, b.weight_gradient, channel, ky, kx);
        store(w, load(w) + acc);
      }
  }
}

}  // namespace leyolo::LEYOLO_ISA

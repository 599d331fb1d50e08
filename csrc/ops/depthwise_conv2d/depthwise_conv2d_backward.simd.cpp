// Gradients of the depthwise convolution. An input pixel gathers the outputs that it fed; the weights of a vector of
// channels are summed row by row, all taps of some tap rows in registers.
#include "ops/depthwise_conv2d/depthwise_conv2d_simd.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Calls f(output, tap) for every output along one side that reads the input at `at`.
template <class F>
LEYOLO_INLINE void each_reader(long long at, int kernel, int stride, int padding, int dilation, long long outputs,
                               F&& f) {
  if (dilation == 1) {  // only every stride-th tap meets `at`, from one output to the one before it
    int k = static_cast<int>((at + padding) % stride);
    for (long long y = (at + padding) / stride; k < kernel && y >= 0; k += stride, --y)
      if (y < outputs) f(y, k);
    return;
  }
  for (int k = 0; k < kernel; ++k) {
    long long const y = at + padding - static_cast<long long>(k) * dilation;
    if (y < 0) break;
    if (y % stride == 0 && y / stride < outputs) f(y / stride, k);
  }
}

struct Reader {
  long long pixel;
  int tap;
};

// x_gradient of one pixel and one vector of channels: the sum over `readers`, or more of it.
template <bool TAIL>
LEYOLO_INLINE void gather(DepthwiseBackwardArgs const& b, float* to, Reader const* readers, int count, bool more,
                          int channel, int n) {
  DepthwiseArgs const& a = b.forward;
  vf acc = more ? load_channels<TAIL>(to + channel, n) : vf{};
  float const *const w = tap(a, a.weight, channel, 0, 0), *const pre = b.pre + channel;
  for (int i = 0; i < count; ++i)
    acc += load_channels<TAIL>(pre + readers[i].pixel * a.channels, n) * load(w + readers[i].tap * kLanes);
  store_channels<TAIL>(to + channel, acc, n);
}

LEYOLO_INLINE void gather(DepthwiseBackwardArgs const& b, float* to, Reader const* readers, int count, bool more) {
  int const channels = b.forward.channels;
  int channel = 0;
  for (; channel + kLanes <= channels; channel += kLanes) gather<false>(b, to, readers, count, more, channel, kLanes);
  if (channel < channels) gather<true>(b, to, readers, count, more, channel, channels - channel);
}

// The sums of one output row and one vector of channels for tap rows [KY, KY + ROWS). `x`: the input row of tap row 0,
// at the input column of tap column 0 of output column 0.
template <int K, int STRIDE, int KY, int ROWS, bool TAIL>
LEYOLO_INLINE void row_sums(DepthwiseBackwardArgs const& b, float const* x, float const* pre, long long row, int count,
                            float* sums, float* bias) {
  DepthwiseArgs const& a = b.forward;
  long long const x_pitch = a.x_pitch, x_row = a.width * x_pitch, pitch = a.channels;
  long long const top = row * STRIDE - a.padding_h;
  bool inside[ROWS];
#pragma GCC unroll 8
  for (int q = 0; q < ROWS; ++q) inside[q] = top + KY + q >= 0 && top + KY + q < a.height;
  vf acc[ROWS][K], total{};
#pragma GCC unroll 8
  for (int q = 0; q < ROWS; ++q)
#pragma GCC unroll 8
    for (int kx = 0; kx < K; ++kx) acc[q][kx] = vf{};
  auto const column = [&](long long j, bool check) LEYOLO_LAMBDA {
    vf const g = pinned(load_channels<TAIL>(pre + j * pitch, count));
    if constexpr (KY == 0) total += g;
    long long const left = j * STRIDE - a.padding_w;
#pragma GCC unroll 8
    for (int q = 0; q < ROWS; ++q) {
      if (!inside[q]) continue;
      float const* const p = x + (KY + q) * x_row + j * STRIDE * x_pitch;
#pragma GCC unroll 8
      for (int kx = 0; kx < K; ++kx)
        if (!check || (left + kx >= 0 && left + kx < a.width))
          acc[q][kx] += load_channels<TAIL>(p + kx * x_pitch, count) * g;
    }
  };
  // Columns whose whole window lies inside the image.
  long long const first = (a.padding_w + STRIDE - 1) / STRIDE, room = a.width + a.padding_w - K;
  long long const end = room < 0 ? 0 : room / STRIDE + 1 < a.out_width ? room / STRIDE + 1 : a.out_width;
  long long j = 0;
  for (; j < first && j < a.out_width; ++j) column(j, true);
  for (; j < end; ++j) column(j, false);
  for (; j < a.out_width; ++j) column(j, true);
#pragma GCC unroll 8
  for (int q = 0; q < ROWS; ++q)
#pragma GCC unroll 8
    for (int kx = 0; kx < K; ++kx) {
      float* const to = sums + ((KY + q) * K + kx) * kLanes;
      store(to, load(to) + acc[q][kx]);
    }
  if constexpr (KY == 0) store(bias, load(bias) + total);
}

// As many tap rows at a time as the registers hold the sums of.
template <int K, int STRIDE, bool TAIL, int KY = 0>
LEYOLO_INLINE void all_rows(DepthwiseBackwardArgs const& b, float const* x, float const* pre, long long row, int count,
                            float* sums, float* bias) {
  if constexpr (KY < K) {
    constexpr int kFit = (kRegisters - 4) / K < 1 ? 1 : (kRegisters - 4) / K;
    constexpr int kRows = kFit < K - KY ? kFit : K - KY;
    row_sums<K, STRIDE, KY, kRows, TAIL>(b, x, pre, row, count, sums, bias);
    all_rows<K, STRIDE, TAIL, KY + kRows>(b, x, pre, row, count, sums, bias);
  }
}

// Row by row: all vectors of channels while the row is in the cache.
template <int K, int STRIDE>
__attribute__((noinline)) void weights_of(DepthwiseBackwardArgs const& b, DepthwisePart const& part) {
  DepthwiseArgs const& a = b.forward;
  for (long long row = part.first_row; row < part.last_row; ++row)
    for (long long block = part.first_block; block < part.last_block; ++block) {
      int const channel = static_cast<int>(block) * kLanes;
      int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
      float *const sums = tap(a, b.weight_gradient, channel, 0, 0), *const bias = b.bias_gradient + channel;
      float const* const pre = b.pre + row * a.out_width * a.channels + channel;
      float const* const x =
          a.x + ((row * STRIDE - a.padding_h) * a.width - a.padding_w) * a.x_pitch + channel;  // maybe outside
      if (n == kLanes)
        all_rows<K, STRIDE, false>(b, x, pre, row, n, sums, bias);
      else
        all_rows<K, STRIDE, true>(b, x, pre, row, n, sums, bias);
    }
}

// Any kernel, stride and dilation: one tap at a time.
void weights_of_any(DepthwiseBackwardArgs const& b, DepthwisePart const& range, int channel) {
  DepthwiseArgs const& a = b.forward;
  int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
  vf bias = load(b.bias_gradient + channel);
  for (long long p = range.first_row * a.out_width; p < range.last_row * a.out_width; ++p)
    bias += load_part(b.pre + p * a.channels + channel, n);
  store(b.bias_gradient + channel, bias);
  for (int ky = 0; ky < a.kernel_h; ++ky)
    for (int kx = 0; kx < a.kernel_w; ++kx) {
      float* const to = tap(a, b.weight_gradient, channel, ky, kx);
      vf acc = load(to);
      for (long long row = range.first_row; row < range.last_row; ++row) {
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
      store(to, acc);
    }
}

}  // namespace

// pre = gradient * activation'(z), where z is the forward result without activation, already in `pre`; for count
// values.
extern void depthwise_pre_gradient(float const* gradient, float* pre, Activation activation, long long count) {
  for (long long i = 0; i < count; i += kLanes) {
    int const n = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
    vf const z = load_part(pre + i, n);
    store_part(pre + i, load_part(gradient + i, n) * activation_gradient(activation, z), n);
  }
}

// Gradient of x for input rows [begin, end).
extern void depthwise_x_gradient(DepthwiseBackwardArgs const& b, long long begin, long long end) {
  constexpr int kMost = 64;
  DepthwiseArgs const& a = b.forward;
  Reader readers[kMost];
  for (long long row = begin; row < end; ++row)
    for (long long column = 0; column < a.width; ++column) {
      float* const to = b.x_gradient + (row * a.width + column) * a.channels;
      int count = 0;
      bool more = false;
      each_reader(row, a.kernel_h, a.stride_h, a.padding_h, a.dilation_h, a.out_height, [&](long long i, int ky) {
        each_reader(column, a.kernel_w, a.stride_w, a.padding_w, a.dilation_w, a.out_width, [&](long long j, int kx) {
          if (count == kMost) {
            gather(b, to, readers, count, more);
            count = 0, more = true;
          }
          readers[count++] = {i * a.out_width + j, ky * a.kernel_w + kx};
        });
      });
      gather(b, to, readers, count, more);
    }
}

// Gradients of weight and bias of a part of one image, added in one fixed order, whatever the parts.
extern void depthwise_weight_gradient(DepthwiseBackwardArgs const& b, DepthwisePart const& part) {
  DepthwiseArgs const& a = b.forward;
  bool const plain = a.kernel_h == a.kernel_w && a.stride_h == a.stride_w && a.dilation_h == 1 && a.dilation_w == 1;
  switch (plain ? 10 * a.kernel_w + a.stride_w : 0) {
    case 31: return weights_of<3, 1>(b, part);
    case 32: return weights_of<3, 2>(b, part);
    case 51: return weights_of<5, 1>(b, part);
    case 52: return weights_of<5, 2>(b, part);
    case 71: return weights_of<7, 1>(b, part);
    case 72: return weights_of<7, 2>(b, part);
  }
  for (long long block = part.first_block; block < part.last_block; ++block)
    weights_of_any(b, part, static_cast<int>(block) * kLanes);
}

}  // namespace leyolo::LEYOLO_ISA

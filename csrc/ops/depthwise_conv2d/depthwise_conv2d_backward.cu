// Backward. The gradient before the activation is the incoming one where there is no activation, else a forward pass
// writes it to the workspace. Then one kernel reads it and x once and makes both gradients:
//   x gradient[p]      = sum over taps t of pre[o(p, t)] weight[t]
//   weight gradient[t] = sum over pixels p of pre[o(p, t)] x[p]
// which pair the same values. A thread owns two channels (one for 7 x 7) of kColumns columns of x and walks down the
// rows of pre; the rows of x and of its gradient that a row of pre reaches are live in registers, the loop is unrolled
// over them. Weights come from shared memory. Sums of the weight gradient stay in registers over all tiles of a thread;
// blocks leave theirs in the workspace, and a last kernel adds them up: always in the same order.
#include <algorithm>

#include "core/channels.cuh"
#include "ops/depthwise_conv2d/depthwise_conv2d.cuh"

namespace leyolo {

namespace {

constexpr int kMarchThreads = 128;
constexpr int kMostBlocks = 792;  // two full waves of three blocks on 132 multiprocessors

// How the work is cut; decided by the shapes alone.
struct Plan {
  int kind, width;           // depthwise_march_kind (0: any window), channels of a thread
  int columns, rows, lanes;  // of x per tile; threads side by side in the channels, a power of two
  int vectors, groups;       // of channels; groups of `lanes` vectors
  int column_strips, row_strips;
  int tiles;
  int chunks;  // blocks of one group
};

// What fits into the registers.
constexpr int columns_of(int kernel, int stride, int64_t size) {
  return kernel != 5 ? 4 : size == 4 ? 2 : stride == 1 ? 3 : 4;
}

Plan plan_of(DepthwiseSizes const& s, DType dtype) {
  Plan p{};
  bool const centred = 2 * s.padding_h == s.kernel_h - 1 && 2 * s.padding_w == s.kernel_w - 1;
  p.kind = centred ? depthwise_march_kind(s) : 0;
  if (!p.kind) return p;
  int const padding = s.padding_w, stride = s.stride_w, shift = padding % stride;
  p.width = s.kernel_h == 7 ? 1 : 2;
  p.columns = columns_of(s.kernel_h, s.stride_h, size_of(dtype));
  p.vectors = s.channels / p.width;
  // As many lanes as divide the vectors; where that leaves few, some idle.
  for (p.lanes = 32; p.lanes > 4 && p.vectors % p.lanes; p.lanes /= 2) continue;
  p.groups = (p.vectors + p.lanes - 1) / p.lanes;
  p.column_strips = int(blocks(s.width + shift, p.columns));
  int64_t const line = int64_t(s.images) * p.column_strips * p.vectors;
  p.rows = 2 * int(std::clamp<int64_t>(line * s.height / (int64_t(kMostBlocks) * kMarchThreads), 2, 32) / 2);
  p.row_strips = int(blocks(s.height + shift, p.rows));
  p.tiles = s.images * p.row_strips * p.column_strips;  // fewer than values: see depthwise_march_kind
  int64_t const side = kMarchThreads / p.lanes, most = std::max(1, kMostBlocks / p.groups);
  int64_t const rounds = std::max<int64_t>(1, (p.tiles + most * side - 1) / (most * side));
  p.chunks = int(std::max<int64_t>(1, (p.tiles + rounds * side - 1) / (rounds * side)));
  return p;
}

template <int WIDTH>
__device__ __forceinline__ void load_taps(float const* shared, float (&to)[WIDTH]) {
  if constexpr (WIDTH == 2) {
    float2 const pair = *reinterpret_cast<float2 const*>(shared);
    to[0] = pair.x, to[1] = pair.y;
  } else {
    to[0] = *shared;
  }
}

template <class T, int K, int STRIDE, int WIDTH, int COLUMNS, int BLOCKS>
__global__ void __launch_bounds__(kMarchThreads, BLOCKS)
    depthwise_march_backward(T const* __restrict__ pre, T const* __restrict__ x, T const* __restrict__ weight,
                             T* __restrict__ x_gradient, float* __restrict__ partial, DepthwiseSizes s, Plan plan) {
  using C = Channels<T, WIDTH>;
  constexpr int kPadding = K / 2, kShift = kPadding % STRIDE, kBase = kPadding - kShift;
  constexpr int kLive = (K + STRIDE - 1) / STRIDE, kSlots = kLive * STRIDE, kValues = (K * K + 1) * WIDTH;
  constexpr int kInputs = (COLUMNS - 1) / STRIDE + (K - 1) / STRIDE + 1;
  LEYOLO_SHARED(float, part, kValues* kMarchThreads);

  int const group = int(blockIdx.x) % plan.groups, chunk = int(blockIdx.x) / plan.groups;
  int const lane = int(threadIdx.x) & (plan.lanes - 1), beside = int(threadIdx.x) / plan.lanes;
  int const side = kMarchThreads / plan.lanes, vector = group * plan.lanes + lane, channel = vector * WIDTH;
  float tap_sum[K * K][WIDTH] = {}, bias_sum[WIDTH] = {};
  constexpr int kTap = 32 * WIDTH;
  for (int i = int(threadIdx.x); i < K * K * kTap; i += kMarchThreads) {
    int const c = group * plan.lanes * WIDTH + i % kTap;
    part[i] = c < s.channels ? float(weight[c * K * K + i / kTap]) : 0.0f;
  }
  __syncthreads();
  if (vector < plan.vectors) {
    float const* const w = part + lane * WIDTH;
    for (int tile = chunk * side + beside; tile < plan.tiles; tile += plan.chunks * side) {
      int const line = tile / plan.column_strips, strip = tile - line * plan.column_strips;
      int const image = line / plan.row_strips;
      // Columns and rows of x count from the padding on: a = column + kPadding, so that a - tap is a multiple of the
      // stride exactly where the tap leads to an output.
      int const a = strip * COLUMNS + kBase, column = a - kPadding, first = a / STRIDE - (K - 1) / STRIDE;
      int const top = (line - image * plan.row_strips) * plan.rows + kBase;
      int const bottom = min(top + plan.rows, s.height + kPadding), upper = max(top, kPadding);
      int const x_row = s.width * s.channels, pre_row = s.out_width * s.channels;
      int out = top / STRIDE - (K - 1) / STRIDE;
      unsigned inside = 0;  // bit j: output column first + j exists; bit 16 + j: column j of x does
#pragma unroll
      for (int j = 0; j < kInputs; ++j) inside |= unsigned(first + j >= 0 && first + j < s.out_width) << j;
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) inside |= unsigned(column + j >= 0 && column + j < s.width) << (16 + j);
      // Where the rows that leave in a step lie; those that enter are `ahead` further.
      int64_t at =
          (int64_t(image) * s.height + out * STRIDE - kPadding) * x_row + int64_t(column) * s.channels + channel;
      int const ahead = (K - STRIDE) * x_row;
      T const* pre_from = pre + (int64_t(image) * s.out_height + out) * pre_row + int64_t(first) * s.channels + channel;

      float dx[kSlots][COLUMNS][WIDTH] = {};
      typename C::Word kept[kSlots][COLUMNS];
#pragma unroll
      for (int slot = 0; slot < kSlots; ++slot)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) kept[slot][j] = C::zero();
      while (out * STRIDE < bottom) {
#pragma unroll
        for (int phase = 0; phase < kLive; ++phase) {
          if (out * STRIDE >= bottom) break;
          // Rows of x that enter.
#pragma unroll
          for (int q = 0; q < STRIDE; ++q) {
            int const slot = (phase * STRIDE + K - STRIDE + q) % kSlots, b = out * STRIDE + K - STRIDE + q;
            bool const enter = b >= upper && b < bottom;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j)
              kept[slot][j] =
                  enter && (inside >> (16 + j) & 1) ? C::load(x + at + ahead + q * x_row + j * s.channels) : C::zero();
          }
          if (out >= 0 && out < s.out_height) {
            float g[kInputs][WIDTH];
#pragma unroll
            for (int j = 0; j < kInputs; ++j)
              C::widen(inside >> j & 1 ? C::load(pre_from + j * s.channels) : C::zero(), g[j]);
            int const centre = out * STRIDE + kPadding;
            if (centre >= top && centre < bottom)
#pragma unroll
              for (int j = kShift; j < COLUMNS; j += STRIDE)
#pragma unroll
                for (int v = 0; v < WIDTH; ++v) bias_sum[v] += g[(j - kPadding + K - 1) / STRIDE][v];
#pragma unroll
            for (int ky = 0; ky < K; ++ky) {
              int const slot = (phase * STRIDE + ky) % kSlots;
              float from[COLUMNS][WIDTH];
#pragma unroll
              for (int j = 0; j < COLUMNS; ++j) C::widen(kept[slot][j], from[j]);
#pragma unroll
              for (int kx = 0; kx < K; ++kx) {
                float tap[WIDTH];
                load_taps(w + (ky * K + kx) * kTap, tap);
#pragma unroll
                for (int j = kx % STRIDE; j < COLUMNS; j += STRIDE)
#pragma unroll
                  for (int v = 0; v < WIDTH; ++v) {
                    float const p = g[(j - kx + K - 1) / STRIDE][v];
                    dx[slot][j][v] += p * tap[v];
                    tap_sum[ky * K + kx][v] += p * from[j][v];
                  }
              }
            }
          }
          // Rows of the gradient that are complete.
#pragma unroll
          for (int q = 0; q < STRIDE; ++q) {
            int const slot = (phase * STRIDE + q) % kSlots, b = out * STRIDE + q;
            bool const leave = x_gradient && b >= upper && b < bottom;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) {
              if (leave && (inside >> (16 + j) & 1))
                C::store(x_gradient + at + q * x_row + j * s.channels, dx[slot][j]);
#pragma unroll
              for (int v = 0; v < WIDTH; ++v) dx[slot][j][v] = 0;
            }
          }
          ++out;
          at += STRIDE * x_row;
          pre_from += pre_row;
        }
      }
    }
  }
  if (!partial) return;  // the same for all threads
  __syncthreads();       // the weights have been read
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) {
#pragma unroll
    for (int t = 0; t < K * K; ++t) part[(t * WIDTH + v) * kMarchThreads + threadIdx.x] = tap_sum[t][v];
    part[(K * K * WIDTH + v) * kMarchThreads + threadIdx.x] = bias_sum[v];
  }
  __syncthreads();
  for (int i = int(threadIdx.x); i < kValues * plan.lanes; i += kMarchThreads) {
    int const value = i / plan.lanes, at = (group * plan.lanes + i % plan.lanes) * WIDTH + value % WIDTH;
    if (at >= s.channels) continue;
    float sum = 0;
    for (int n = 0; n < side; ++n) sum += part[value * kMarchThreads + n * plan.lanes + i % plan.lanes];
    partial[(int64_t(chunk) * (K * K + 1) + value / WIDTH) * s.channels + at] = sum;
  }
}

// Partial sums [chunks, taps + 1, channels] to the gradients of weight [channels, taps] and bias.
template <class T>
__global__ void depthwise_sum(float const* __restrict__ partial, T* __restrict__ weight_gradient,
                              T* __restrict__ bias_gradient, int chunks, int taps, int channels) {
  int const at = int(blockIdx.x * blockDim.x + threadIdx.x), stride = (taps + 1) * channels;
  if (at >= stride) return;
  float sum = 0;
#pragma unroll 8
  for (int n = 0; n < chunks; ++n) sum += partial[int64_t(n) * stride + at];
  int const tap = at / channels, channel = at % channels;
  if (tap < taps && weight_gradient) weight_gradient[int64_t(channel) * taps + tap] = T(sum);
  if (tap == taps && bias_gradient) bias_gradient[channel] = T(sum);
}

// Any window: every input pixel gathers the outputs that it fed.
template <class T, class A>
__global__ void depthwise_any_x_gradient(T const* __restrict__ pre, T const* __restrict__ weight,
                                         T* __restrict__ x_gradient, DepthwiseSizes s, int64_t inputs) {
  int64_t const at = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (at >= inputs) return;
  int64_t const c = at % s.channels, column = at / s.channels % s.width, line = at / s.channels / s.width;
  int64_t const row = line % s.height, image = line / s.height;
  A sum = 0;
  for (int ky = 0; ky < s.kernel_h; ++ky) {
    int64_t const i = row + s.padding_h - int64_t(ky) * s.dilation_h;
    if (i < 0 || i % s.stride_h || i / s.stride_h >= s.out_height) continue;
    for (int kx = 0; kx < s.kernel_w; ++kx) {
      int64_t const j = column + s.padding_w - int64_t(kx) * s.dilation_w;
      if (j < 0 || j % s.stride_w || j / s.stride_w >= s.out_width) continue;
      int64_t const from = (image * s.out_height + i / s.stride_h) * s.out_width + j / s.stride_w;
      sum += A(pre[from * s.channels + c]) * A(weight[(c * s.kernel_h + ky) * s.kernel_w + kx]);
    }
  }
  x_gradient[at] = T(sum);
}

// Any window: a block for one tap (the last one: the bias) of 32 channels, its warps share the rows of all images.
template <class T, class A>
__global__ void depthwise_any_weight_gradient(T const* __restrict__ pre, T const* __restrict__ x,
                                              T* __restrict__ weight_gradient, T* __restrict__ bias_gradient,
                                              DepthwiseSizes s) {
  LEYOLO_SHARED(A, part, kThreads);
  int const taps = s.kernel_h * s.kernel_w, tap = int(blockIdx.x) % (taps + 1), lane = int(threadIdx.x) % 32;
  int const ky = tap / s.kernel_w, kx = tap % s.kernel_w;
  int64_t const c = int64_t(blockIdx.x) / (taps + 1) * 32 + lane;
  A sum = 0;
  if (c < s.channels)
    for (int64_t line = threadIdx.x / 32; line < int64_t(s.images) * s.out_height; line += kThreads / 32) {
      int64_t const i = line % s.out_height * s.stride_h - s.padding_h + int64_t(ky) * s.dilation_h;
      if (tap < taps && (i < 0 || i >= s.height)) continue;
      T const* const g = pre + line * s.out_width * s.channels + c;
      T const* const from = x + (line / s.out_height * s.height + i) * s.width * s.channels + c;
      A row = 0;  // sums of one row first: shorter chains of roundings
      for (int64_t o = 0; o < s.out_width; ++o) {
        int64_t const j = o * s.stride_w - s.padding_w + int64_t(kx) * s.dilation_w;
        if (tap == taps)
          row += A(g[o * s.channels]);
        else if (j >= 0 && j < s.width)
          row += A(g[o * s.channels]) * A(from[j * s.channels]);
      }
      sum += row;
    }
  part[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= 32 || c >= s.channels) return;
  for (int n = 32; n < kThreads; n += 32) sum += part[n + lane];
  if (tap < taps && weight_gradient) weight_gradient[c * taps + tap] = T(sum);
  if (tap == taps && bias_gradient) bias_gradient[c] = T(sum);
}

struct Backward {
  View pre, x, weight, x_gradient, weight_gradient, bias_gradient;
  float* partial;
  DepthwiseSizes sizes;
  Plan plan;
  void* stream;

  template <class T>
  T* pointer(View v) const {
    return v ? v.as<T>() : nullptr;
  }

  template <class T, int K, int STRIDE, int WIDTH, int COLUMNS, int BLOCKS>
  void march() const {
    bool const sums = weight_gradient || bias_gradient;
    LEYOLO_LAUNCH((depthwise_march_backward<T, K, STRIDE, WIDTH, COLUMNS, BLOCKS>), unsigned(plan.groups * plan.chunks),
                  kMarchThreads, 0, stream, pre.as<T>(), x.as<T>(), weight.as<T>(), pointer<T>(x_gradient),
                  sums ? partial : nullptr, sizes, plan);
    if (sums)
      LEYOLO_LAUNCH(depthwise_sum<T>, blocks((K * K + 1) * int64_t(sizes.channels), 64), 64, 0, stream, partial,
                    pointer<T>(weight_gradient), pointer<T>(bias_gradient), plan.chunks, K * K, sizes.channels);
  }

  template <class T, class A>
  void any() const {
    if (x_gradient)
      LEYOLO_LAUNCH((depthwise_any_x_gradient<T, A>), blocks(x.numel()), kThreads, 0, stream, pre.as<T>(),
                    weight.as<T>(), x_gradient.as<T>(), sizes, x.numel());
    int64_t const taps = int64_t(sizes.kernel_h) * sizes.kernel_w;
    if (weight_gradient || bias_gradient)
      LEYOLO_LAUNCH((depthwise_any_weight_gradient<T, A>), unsigned((taps + 1) * blocks(sizes.channels, 32)), kThreads,
                    0, stream, pre.as<T>(), x.as<T>(), pointer<T>(weight_gradient), pointer<T>(bias_gradient), sizes);
  }
};

int64_t aligned(int64_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

int64_t depthwise_conv2d_backward_workspace_cuda(View x, View weight, View y, Depthwise const& params) {
  if (x.numel() == 0 || y.numel() == 0) return 0;
  DepthwiseSizes const s = depthwise_sizes(x, weight, y, params);
  int64_t const pre = params.activation == Activation::none ? 0 : aligned(y.numel() * size_of(y.dtype));
  Plan const plan = plan_of(s, x.dtype);
  return pre + 4 * int64_t(plan.chunks) * (weight.shape[2] * weight.shape[3] + 1) * s.channels;
}

void depthwise_conv2d_backward_cuda(View gradient, View x, View weight, View bias, View x_gradient,
                                    View weight_gradient, View bias_gradient, View workspace, Depthwise const& params,
                                    Context const& context) {
  if (x.numel() == 0 || gradient.numel() == 0) {
    for (View const& v : {x_gradient, weight_gradient, bias_gradient})
      if (v) fill_zero(v.data, v.numel() * size_of(v.dtype), context.stream);
    return;
  }
  Backward b{gradient, x,  weight,        x_gradient, weight_gradient, bias_gradient, workspace.as<float>(),
             {},       {}, context.stream};
  b.sizes = depthwise_sizes(x, weight, gradient, params);
  b.plan = plan_of(b.sizes, x.dtype);
  if (params.activation != Activation::none) {
    b.pre.data = workspace.data;
    b.partial += aligned(gradient.numel() * size_of(gradient.dtype)) / 4;
    depthwise_forward_cuda(x, weight, bias, gradient, b.pre, params, context);
  }
  for_float_cuda(x.dtype, "depthwise_conv2d", [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, double>) {
      b.any<double, double>();
    } else {
      bool const fit =
          pairs_fit(b.sizes.channels, sizeof(T), b.pre.data, x.data, x_gradient ? x_gradient.data : nullptr);
      switch (fit ? b.plan.kind : 0) {
        case 31: return b.march<T, 3, 1, 2, columns_of(3, 1, sizeof(T)), 4>();
        case 32: return b.march<T, 3, 2, 2, columns_of(3, 2, sizeof(T)), 4>();
        case 51: return b.march<T, 5, 1, 2, columns_of(5, 1, sizeof(T)), 3>();
        case 52: return b.march<T, 5, 2, 2, columns_of(5, 2, sizeof(T)), 3>();
        case 71: return b.march<T, 7, 1, 1, columns_of(7, 1, sizeof(T)), 3>();
        case 72: return b.march<T, 7, 2, 1, columns_of(7, 2, sizeof(T)), 3>();
        default: return b.any<T, float>();
      }
    }
  });
}

}  // namespace leyolo

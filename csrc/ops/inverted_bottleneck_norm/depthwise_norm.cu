// The depthwise convolution between two norms, SiLU in front of it: the marching kernels of depthwise_conv2d with the
// norms at their ends. 3 x 3 and 5 x 5, strides 1 and 2, pairs of channels.
#include "ops/depthwise_conv2d/depthwise_backward.cuh"
#include "ops/depthwise_conv2d/depthwise_march.cuh"
#include "ops/inverted_bottleneck_norm/norm_layer.cuh"

namespace leyolo {

namespace {

// (x - mean) * scale + shift of a pair of channels.
struct PairNorm {
  float mean[2], scale[2], shift[2];

  __device__ PairNorm(NormConstants const& norm, int channel) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      mean[e] = norm.channels ? norm.mean[channel + e] : 0.0f;
      scale[e] = norm.channels ? norm.scale[channel + e] : 0.0f;
      shift[e] = norm.channels ? norm.shift[channel + e] : 0.0f;
    }
  }
  __device__ __forceinline__ float2 operator()(float2 v) const {
    return {(v.x - mean[0]) * scale[0] + shift[0], (v.y - mean[1]) * scale[1] + shift[1]};
  }
};

// Whether this thread adds up what those of its channels have left in shared memory.
__device__ __forceinline__ bool all_have_left_theirs(int beside, int channel, int channels) {
  __syncthreads();
  return beside == 0 && channel < channels;
}

template <class T, int K, int STRIDE, int COLUMNS>
__global__ void __launch_bounds__(kMarchThreads, 3)
    depthwise_norm(T const* __restrict__ x, T const* __restrict__ weight, T const* __restrict__ bias, T* __restrict__ z,
                   NormConstants before, double* __restrict__ pieces, DepthwiseSizes s, MarchPlan plan) {
  LEYOLO_SHARED(double, part, 5 * kMarchThreads);
  int const group = int(blockIdx.x) % plan.groups, chunk = int(blockIdx.x) / plan.groups;
  int const lane = int(threadIdx.x) & (plan.lanes - 1), beside = int(threadIdx.x) / plan.lanes;
  int const side = kMarchThreads / plan.lanes, channel = (group * plan.lanes + lane) * 2;
  PairStatistics statistics;
  if (channel < s.channels) {
    PairNorm const norm(before, channel);
    float2 const b = bias ? float2{float(bias[channel]), float(bias[channel + 1])} : float2{0, 0};  // at any address
    float2 w[K * K];
#pragma unroll
    for (int t = 0; t < K * K; ++t)
      w[t] = {float(weight[channel * K * K + t]), float(weight[(channel + 1) * K * K + t])};
    for (int tile = chunk * side + beside; tile < plan.tiles; tile += plan.chunks * side) {
      int const line = tile / plan.column_strips, strip = tile - line * plan.column_strips;
      int const image = line / plan.row_strips, begin = (line - image * plan.row_strips) * plan.rows;
      depthwise_march_rows<K, STRIDE, COLUMNS>(
          w, s, begin, min(begin + plan.rows, s.out_height), strip * COLUMNS,
          int64_t(image) * s.height * s.width * s.channels + channel,
          int64_t(image) * s.out_height * s.out_width * s.channels + channel,
          [&](int64_t at) {
            float2 v = widen_pair<T>(load_pair(x + at));
            if (!before.channels) return v;
            v = norm(v);
            return float2{silu_device(v.x), silu_device(v.y)};
          },
          [&](int64_t at, float2 sum) {
            auto const word = narrow_pair<T>({sum.x + b.x, sum.y + b.y});
            *reinterpret_cast<typename ChannelPair<T>::Word*>(z + at) = word;
            statistics.add(widen_pair<T>(word));
          });
    }
  }
  part[threadIdx.x] = statistics.n;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    part[(1 + e) * kMarchThreads + threadIdx.x] = statistics.mean(e);
    part[(3 + e) * kMarchThreads + threadIdx.x] = statistics.squares[e];
  }
  if (!all_have_left_theirs(beside, channel, s.channels)) return;
  for (int e = 0; e < 2; ++e) {
    Moments<double> all;
    for (int t = int(threadIdx.x); t < kMarchThreads; t += plan.lanes)
      all.merge(part[t], part[(1 + e) * kMarchThreads + t], part[(3 + e) * kMarchThreads + t]);
    double* const to = pieces + int64_t(chunk) * 3 * s.channels + channel + e;
    to[0] = all.n, to[s.channels] = all.mean, to[2 * s.channels] = all.squares;
  }
}

// The maps of the backward pass (depthwise_backward.cuh): the gradient behind the norm behind, and x in front of the
// norm before.
template <class T>
struct NormMaps {
  struct Arguments {
    T const *z, *added;
    NormConstants behind, before;
    double* pieces;
  };
  using Word = typename ChannelPair<T>::Word;
  static constexpr bool kBias = false;

  T const *pre, *x;
  T* x_gradient;
  Arguments const& a;
  int channel, channels;
  float mean[2] = {}, scale[2] = {}, offset[2] = {}, slope[2] = {};
  PairNorm before;
  PairSums sums;

  __device__ NormMaps(T const* p, T const* from, T* to, Arguments const& arguments, int first, int all)
      : pre(p),
        x(from),
        x_gradient(to),
        a(arguments),
        channel(first),
        channels(all),
        before(a.before, min(first, all - 2)) {
    if (channel >= channels) return;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      int const c = channel + e;
      mean[e] = a.behind.mean[c], scale[e] = a.behind.scale[c], offset[e] = a.behind.offset[c];
      slope[e] = a.behind.slope[c];
    }
  }
  __device__ __forceinline__ void gradient(int64_t at, float (&to)[2]) const {
    float2 const dz = widen_pair<T>(load_pair(pre + at)), z = widen_pair<T>(load_pair(a.z + at));
    to[0] = scale[0] * (dz.x - offset[0] - (z.x - mean[0]) * slope[0]);
    to[1] = scale[1] * (dz.y - offset[1] - (z.y - mean[1]) * slope[1]);
  }
  __device__ __forceinline__ Word enter(int64_t at) const {
    Word const word = load_pair(x + at);
    if (!a.before.channels) return word;
    float2 const v = before(widen_pair<T>(word));
    return narrow_pair<T>({silu_device(v.x), silu_device(v.y)});
  }
  __device__ __forceinline__ bool wants() const { return true; }
  __device__ __forceinline__ void leave(int64_t at, float const (&dx)[2]) {
    float2 to{dx[0], dx[1]}, z{0, 0};
    if (a.before.channels) {
      z = widen_pair<T>(load_pair(x + at));
      float2 const v = before(z);
      to.x *= activation_gradient_device(Activation::silu, v.x);
      to.y *= activation_gradient_device(Activation::silu, v.y);
    } else if (a.added) {
      float2 const more = widen_pair<T>(load_pair(a.added + at));
      to = {to.x + more.x, to.y + more.y};
    }
    Word const word = narrow_pair<T>(to);
    *reinterpret_cast<Word*>(x_gradient + at) = word;
    if (a.before.channels) sums.add(widen_pair<T>(word), {z.x - before.mean[0], z.y - before.mean[1]});
  }
  __device__ void finish(float* part, int chunk, int beside, MarchPlan const& plan) const {
    if (!a.before.channels) return;
    __syncthreads();  // what was in it has been read
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      Total<float> const all[] = {sums.dz[e], sums.products[e]};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        part[(4 * e + 2 * i) * kMarchThreads + threadIdx.x] = all[i].sum;
        part[(4 * e + 2 * i + 1) * kMarchThreads + threadIdx.x] = all[i].rest;
      }
    }
    if (!all_have_left_theirs(beside, channel, channels)) return;
    for (int i = 0; i < 4; ++i) {
      double total = 0;
      for (int t = int(threadIdx.x); t < kMarchThreads; t += plan.lanes)
        total += double(part[2 * i * kMarchThreads + t]) + double(part[(2 * i + 1) * kMarchThreads + t]);
      a.pieces[(int64_t(chunk) * 2 + i % 2) * channels + channel + i / 2] = total;
    }
  }
};

MarchPlan forward_plan(DepthwiseSizes const& s, int columns) {
  MarchPlan p{};
  p.width = 2, p.columns = columns;
  lay_out(p, s, s.out_height, s.out_width);
  return p;
}

constexpr int kColumns = 4;

template <class T>
T* or_null(View v) {
  return v ? v.as<T>() : nullptr;
}

// f(T(), kernel, stride)
template <class F>
void for_window(DType type, int kind, F&& f) {
  for_map_type(type, [&](auto zero) {
    using Three = std::integral_constant<int, 3>;
    using Five = std::integral_constant<int, 5>;
    using One = std::integral_constant<int, 1>;
    using Two = std::integral_constant<int, 2>;
    switch (kind) {
      case 31: return f(zero, Three(), One());
      case 32: return f(zero, Three(), Two());
      case 51: return f(zero, Five(), One());
      default: return f(zero, Five(), Two());
    }
  });
}

void check_pairs(FilterNorm const& layer, void const* map) {
  check(pairs_fit(2, size_of(layer.x.dtype), layer.x.data, map),
        "inverted_bottleneck_norm: maps of even channels must begin at a multiple of two values");
}

}  // namespace

bool FilterNorm::fits(Activation activation) const {
  DepthwiseSizes const s = depthwise_sizes(x, weight, z, params);
  int const kind = depthwise_march_kind(s);
  bool const known = kind == 31 || kind == 32 || kind == 51 || kind == 52;
  return known && (activation == Activation::silu || !before.channels) &&
         pairs_fit(s.channels, size_of(x.dtype), x.data);
}

int FilterNorm::pieces(bool backward) const {
  DepthwiseSizes const s = depthwise_sizes(x, weight, z, params);
  return (backward ? march_plan(s, x.dtype) : forward_plan(s, kColumns)).chunks;
}

int64_t FilterNorm::workspace() const {
  return 4 * int64_t(pieces(true)) * (weight.shape[2] * weight.shape[3] + 1) * weight.shape[0];
}

void depthwise_norm_cuda(FilterNorm const& layer, View bias, double* pieces, Context const& context) {
  DepthwiseSizes const s = depthwise_sizes(layer.x, layer.weight, layer.z, layer.params);
  check_pairs(layer, layer.z.data);
  for_window(layer.x.dtype, depthwise_march_kind(s), [&](auto zero, auto kernel, auto stride) {
    using T = decltype(zero);
    MarchPlan const plan = forward_plan(s, kColumns);
    LEYOLO_LAUNCH((depthwise_norm<T, kernel(), stride(), kColumns>), unsigned(plan.groups * plan.chunks), kMarchThreads,
                  0, context.stream, layer.x.as<T>(), layer.weight.as<T>(), or_null<T>(bias), layer.z.as<T>(),
                  layer.before, pieces, s, plan);
  });
}

void depthwise_norm_backward_cuda(FilterNorm const& layer, NormMap const& gradient, void const* added, void* x_gradient,
                                  View weight_gradient, double* pieces, void* workspace, Context const& context) {
  DepthwiseSizes const s = depthwise_sizes(layer.x, layer.weight, layer.z, layer.params);
  MarchPlan const plan = march_plan(s, layer.x.dtype);
  check_pairs(layer, gradient.z), check_pairs(layer, added);
  for_window(layer.x.dtype, plan.kind, [&](auto zero, auto kernel, auto stride) {
    using T = decltype(zero);
    constexpr int kKernel = kernel(), kX = march_columns(kKernel, stride(), sizeof(T)), kBlocks = kKernel == 3 ? 4 : 3;
    using Maps = NormMaps<T>;
    typename Maps::Arguments const a{static_cast<T const*>(gradient.z), static_cast<T const*>(added), gradient.norm,
                                     layer.before, pieces};
    LEYOLO_LAUNCH((depthwise_march_backward<T, kKernel, stride(), 2, kX, kBlocks, Maps>),
                  unsigned(plan.groups * plan.chunks), kMarchThreads, 0, context.stream,
                  static_cast<T const*>(gradient.values), layer.x.as<T>(), layer.weight.as<T>(),
                  static_cast<T*>(x_gradient), static_cast<float*>(workspace), a, s, plan);
    LEYOLO_LAUNCH(depthwise_sum<T>, blocks((kKernel * kKernel + 1) * int64_t(s.channels), 64), 64, 0, context.stream,
                  static_cast<float const*>(workspace), weight_gradient.as<T>(), static_cast<T*>(nullptr), plan.chunks,
                  kKernel * kKernel, s.channels);
  });
}

}  // namespace leyolo

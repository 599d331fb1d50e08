// Channels last: a thread owns two neighbouring channels (one where they do not pair, and in float64) and walks over
// pixels; the threads of a warp read whole lines. Statistics are Welford's, of differences from the first pixel: a mean
// far from zero neither disturbs the variance nor is rounded at its size in every step. The threads that share
// channels, and then the blocks, are merged in a fixed order: the same bits in every run. Nothing but mean and variance
// is kept between forward and backward pass: each pass recomputes z from x.
#include <algorithm>

#include "core/activation.cuh"
#include "core/channels.cuh"
#include "ops/batch_norm_act/batch_norm_act.h"

namespace leyolo {

namespace {

constexpr int kMostBlocks = 8 * 132;  // one full wave of an H100
constexpr int kAtOnce = 4;            // loads of a thread that are under way together
constexpr int kSlices = kThreads / 32;

struct Plan {
  int64_t rows;
  int channels, width, vectors, lanes, groups, side, chunks;

  Plan(View x, int channel_width) : channels(int(x.shape[x.rank - 1])), width(channel_width) {
    rows = channels ? x.numel() / channels : 0;
    vectors = channels / width;
    for (lanes = 32; lanes > 4 && vectors % lanes; lanes /= 2) continue;
    groups = std::max(1, (vectors + lanes - 1) / lanes);
    side = kThreads / lanes;
    chunks = int(std::clamp<int64_t>(rows / (side * kAtOnce), 1, std::max(1, kMostBlocks / groups)));
  }
  unsigned grid() const { return unsigned(groups * chunks); }
};

// Where a thread stands.
struct Place {
  int chunk, lane, beside, channel;
  int64_t first, step;
  bool used;

  __device__ explicit Place(Plan const& p) {
    int const group = int(blockIdx.x) % p.groups;
    chunk = int(blockIdx.x) / p.groups;
    lane = int(threadIdx.x) & (p.lanes - 1), beside = int(threadIdx.x) / p.lanes;
    int const vector = group * p.lanes + lane;
    used = vector < p.vectors;
    channel = vector * p.width;
    first = int64_t(chunk) * p.side + beside, step = int64_t(p.chunks) * p.side;
  }
};

__device__ __forceinline__ float inverse_of(float n) { return __fdividef(1.0f, n); }
__device__ __forceinline__ double inverse_of(double n) { return 1.0 / n; }

template <class A>
struct Moments {
  A n = 0, mean = 0, squares = 0;

  __device__ void merge(A more, A more_mean, A more_squares) {
    if (more == A(0)) return;
    A const all = n + more, d = more_mean - mean, share = more * inverse_of(all);
    mean += d * share;
    squares += more_squares + d * d * n * share;
    n = all;
  }
};

template <class T, int WIDTH>
__global__ void __launch_bounds__(kThreads)
    norm_statistics(T const* __restrict__ x, typename Channels<T, WIDTH>::A* __restrict__ partial, Plan plan) {
  using C = Channels<T, WIDTH>;
  using A = typename C::A;
  LEYOLO_SHARED(A, part, (2 * WIDTH + 1) * kThreads);
  Place const at(plan);
  A n = 0, mean[WIDTH] = {}, squares[WIDTH] = {};
  if (at.used) {
    A origin[WIDTH];
    C::widen(C::load(x + at.channel), origin);
    for (int64_t row = at.first; row < plan.rows; row += kAtOnce * at.step) {
      typename C::Word words[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
        if (row + k * at.step < plan.rows) words[k] = C::load(x + (row + k * at.step) * plan.channels + at.channel);
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (row + k * at.step >= plan.rows) break;
        n += A(1);
        A const inverse = inverse_of(n);
        A value[WIDTH];
        C::widen(words[k], value);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) {
          A const from_origin = value[v] - origin[v], d = from_origin - mean[v];
          mean[v] += d * inverse;
          squares[v] += d * (from_origin - mean[v]);
        }
      }
    }
  }
  part[2 * WIDTH * kThreads + threadIdx.x] = n;
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) {
    part[2 * v * kThreads + threadIdx.x] = mean[v];
    part[(2 * v + 1) * kThreads + threadIdx.x] = squares[v];
  }
  __syncthreads();
  if (at.beside > 0 || !at.used) return;
  for (int v = 0; v < WIDTH; ++v) {
    Moments<A> all;
    for (int t = int(threadIdx.x); t < kThreads; t += plan.lanes)
      all.merge(part[2 * WIDTH * kThreads + t], part[2 * v * kThreads + t], part[(2 * v + 1) * kThreads + t]);
    A* const to = partial + int64_t(at.chunk) * 3 * plan.channels + at.channel + v;
    to[0] = all.n, to[plan.channels] = all.mean, to[2 * plan.channels] = all.squares;
  }
}

// A block for 32 channels; each slice of it takes every kSlices-th chunk.
template <class T, class A>
__global__ void __launch_bounds__(kThreads) norm_finish(T const* __restrict__ x, A const* __restrict__ partial,
                                                        A* __restrict__ mean, A* __restrict__ variance, Plan plan) {
  LEYOLO_SHARED(A, part, 3 * kThreads);
  int const slice = int(threadIdx.x) / 32, c = int(blockIdx.x) * 32 + int(threadIdx.x) % 32;
  Moments<A> all;
  if (c < plan.channels)
    for (int chunk = slice; chunk < plan.chunks; chunk += kSlices) {
      A const* const from = partial + int64_t(chunk) * 3 * plan.channels + c;
      all.merge(from[0], from[plan.channels], from[2 * plan.channels]);
    }
  part[threadIdx.x] = all.n, part[kThreads + threadIdx.x] = all.mean, part[2 * kThreads + threadIdx.x] = all.squares;
  __syncthreads();
  if (slice > 0 || c >= plan.channels) return;
  for (int t = int(threadIdx.x) + 32; t < kThreads; t += 32)
    all.merge(part[t], part[kThreads + t], part[2 * kThreads + t]);
  mean[c] = A(x[c]) + all.mean, variance[c] = all.squares / A(plan.rows);
}

// Constants of a thread's channels: z = (x - mean) * scale + shift.
template <class A, int WIDTH>
struct Affine {
  A mean[WIDTH], inverse[WIDTH], scale[WIDTH], shift[WIDTH];

  __device__ Affine(A const* weight, A const* bias, A const* means, A const* variance, double eps, int channel) {
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) {
      int const c = channel + v;
      mean[v] = means[c];
      inverse[v] = A(1) / sqrt(variance[c] + A(eps));
      scale[v] = weight ? inverse[v] * weight[c] : inverse[v];
      shift[v] = bias ? bias[c] : A(0);
    }
  }
};

template <class T, int WIDTH, class A = typename Channels<T, WIDTH>::A>
__global__ void __launch_bounds__(kThreads)
    norm_apply(T const* __restrict__ x, A const* __restrict__ weight, A const* __restrict__ bias,
               A const* __restrict__ mean, A const* __restrict__ variance, T* __restrict__ y, double eps,
               Activation activation, Plan plan) {
  using C = Channels<T, WIDTH>;
  Place const at(plan);
  if (!at.used) return;
  Affine<A, WIDTH> const affine(weight, bias, mean, variance, eps, at.channel);
  for (int64_t row = at.first; row < plan.rows; row += kAtOnce * at.step) {
    typename C::Word words[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (row + k * at.step < plan.rows) words[k] = C::load(x + (row + k * at.step) * plan.channels + at.channel);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (row + k * at.step >= plan.rows) break;
      A z[WIDTH];
      C::widen(words[k], z);
#pragma unroll
      for (int v = 0; v < WIDTH; ++v)
        z[v] = activate_device(activation, (z[v] - affine.mean[v]) * affine.scale[v] + affine.shift[v]);
      C::store(y + (row + k * at.step) * plan.channels + at.channel, z);
    }
  }
}

// Calls each(row, dz, centred) for the pixels of this thread: the gradient before the activation, and x - mean.
template <class T, int WIDTH, class A, class F>
__device__ __forceinline__ void before_activation(T const* gradient, T const* x, Affine<A, WIDTH> const& affine,
                                                  Activation activation, Plan const& plan, Place const& at, F&& each) {
  using C = Channels<T, WIDTH>;
  for (int64_t row = at.first; row < plan.rows; row += kAtOnce * at.step) {
    typename C::Word words[kAtOnce] = {}, gradients[kAtOnce] = {};
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (row + k * at.step < plan.rows) {
        int64_t const from = (row + k * at.step) * plan.channels + at.channel;
        words[k] = C::load(x + from), gradients[k] = C::load(gradient + from);
      }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (row + k * at.step >= plan.rows) break;
      A centred[WIDTH], dz[WIDTH];
      C::widen(words[k], centred), C::widen(gradients[k], dz);
#pragma unroll
      for (int v = 0; v < WIDTH; ++v) {
        centred[v] -= affine.mean[v];
        dz[v] *= activation_gradient_device(activation, centred[v] * affine.scale[v] + affine.shift[v]);
      }
      each(row + k * at.step, dz, centred);
    }
  }
}

// A sum and what rounding has left over of it (Knuth, TAOCP 2, 4.2.2).
template <class A>
struct Total {
  A sum = 0, rest = 0;

  __device__ __forceinline__ void add(A x) {
    A const after = sum + x, added = after - sum;
    if constexpr (std::is_same_v<A, float>) rest += (sum - (after - added)) + (x - added);
    sum = after;
  }
  __device__ double value() const { return double(sum) + double(rest); }
};

// Sums of the blocks in float64.
template <class T, int WIDTH, class A = typename Channels<T, WIDTH>::A>
__global__ void __launch_bounds__(kThreads)
    norm_gradient_sums(T const* __restrict__ gradient, T const* __restrict__ x, A const* __restrict__ weight,
                       A const* __restrict__ bias, A const* __restrict__ mean, A const* __restrict__ variance,
                       double* __restrict__ partial, double eps, Activation activation, Plan plan) {
  LEYOLO_SHARED(double, part, 2 * WIDTH * kThreads);
  Place const at(plan);
  Total<A> sum[WIDTH], product[WIDTH];
  if (at.used) {
    Affine<A, WIDTH> const affine(weight, bias, mean, variance, eps, at.channel);
    before_activation<T, WIDTH>(gradient, x, affine, activation, plan, at,
                                [&](int64_t, A const(&dz)[WIDTH], A const(&centred)[WIDTH]) {
#pragma unroll
                                  for (int v = 0; v < WIDTH; ++v) {
                                    sum[v].add(dz[v]);
                                    product[v].add(dz[v] * centred[v]);
                                  }
                                });
  }
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) {
    part[2 * v * kThreads + threadIdx.x] = sum[v].value();
    part[(2 * v + 1) * kThreads + threadIdx.x] = product[v].value();
  }
  __syncthreads();
  if (at.beside > 0 || !at.used) return;
  for (int v = 0; v < WIDTH; ++v) {
    double all = 0, products = 0;
    for (int t = int(threadIdx.x); t < kThreads; t += plan.lanes) {
      all += part[2 * v * kThreads + t];
      products += part[(2 * v + 1) * kThreads + t];
    }
    double* const to = partial + int64_t(at.chunk) * 2 * plan.channels + at.channel + v;
    to[0] = all, to[plan.channels] = products;
  }
}

// sums [2, channels]: sum of dz, sum of dz times the normalised x.
template <class A>
__global__ void __launch_bounds__(kThreads)
    norm_gradient_finish(double const* __restrict__ partial, A const* __restrict__ variance, double* __restrict__ sums,
                         A* __restrict__ weight_gradient, A* __restrict__ bias_gradient, double eps, Plan plan) {
  LEYOLO_SHARED(double, part, 2 * kThreads);
  int const slice = int(threadIdx.x) / 32, c = int(blockIdx.x) * 32 + int(threadIdx.x) % 32;
  double sum = 0, product = 0;
  if (c < plan.channels)
    for (int chunk = slice; chunk < plan.chunks; chunk += kSlices) {
      double const* const from = partial + int64_t(chunk) * 2 * plan.channels + c;
      sum += from[0], product += from[plan.channels];
    }
  part[threadIdx.x] = sum, part[kThreads + threadIdx.x] = product;
  __syncthreads();
  if (slice > 0 || c >= plan.channels) return;
  for (int t = int(threadIdx.x) + 32; t < kThreads; t += 32) sum += part[t], product += part[kThreads + t];
  product /= sqrt(double(variance[c]) + eps);
  sums[c] = sum, sums[plan.channels + c] = product;
  if (weight_gradient) weight_gradient[c] = A(product);
  if (bias_gradient) bias_gradient[c] = A(sum);
}

// sums null: given statistics, which do not depend on x.
template <class T, int WIDTH, class A = typename Channels<T, WIDTH>::A>
__global__ void __launch_bounds__(kThreads)
    norm_x_gradient(T const* __restrict__ gradient, T const* __restrict__ x, A const* __restrict__ weight,
                    A const* __restrict__ bias, A const* __restrict__ mean, A const* __restrict__ variance,
                    double const* __restrict__ sums, T* __restrict__ x_gradient, double eps, Activation activation,
                    Plan plan) {
  Place const at(plan);
  if (!at.used) return;
  Affine<A, WIDTH> const affine(weight, bias, mean, variance, eps, at.channel);
  A offset[WIDTH] = {}, slope[WIDTH] = {};
  if (sums)
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) {
      offset[v] = A(sums[at.channel + v] / double(plan.rows));
      slope[v] = A(sums[plan.channels + at.channel + v] / double(plan.rows)) * affine.inverse[v];
    }
  before_activation<T, WIDTH>(gradient, x, affine, activation, plan, at,
                              [&](int64_t row, A const(&dz)[WIDTH], A const(&centred)[WIDTH]) {
                                A to[WIDTH];
#pragma unroll
                                for (int v = 0; v < WIDTH; ++v)
                                  to[v] = affine.scale[v] * (dz[v] - offset[v] - centred[v] * slope[v]);
                                Channels<T, WIDTH>::store(x_gradient + row * plan.channels + at.channel, to);
                              });
}

template <class A>
A* or_null(View v) {
  return v ? v.as<A>() : nullptr;
}

template <class T, int WIDTH>
void forward(View x, View weight, View bias, View mean, View variance, View y, View workspace,
             BatchNormAct const& params, void* stream) {
  using A = typename Channels<T, WIDTH>::A;
  Plan const plan(x, WIDTH);
  if (params.training) {
    LEYOLO_LAUNCH((norm_statistics<T, WIDTH>), plan.grid(), kThreads, 0, stream, x.as<T>(), workspace.as<A>(), plan);
    LEYOLO_LAUNCH((norm_finish<T, A>), blocks(plan.channels, 32), kThreads, 0, stream, x.as<T>(), workspace.as<A>(),
                  mean.as<A>(), variance.as<A>(), plan);
  }
  LEYOLO_LAUNCH((norm_apply<T, WIDTH>), plan.grid(), kThreads, 0, stream, x.as<T>(), or_null<A>(weight),
                or_null<A>(bias), mean.as<A>(), variance.as<A>(), y.as<T>(), params.eps, params.activation, plan);
}

template <class T, int WIDTH>
void backward(View gradient, View x, View weight, View bias, View mean, View variance, View gx, View gw, View gb,
              View workspace, BatchNormAct const& params, void* stream) {
  using A = typename Channels<T, WIDTH>::A;
  Plan const plan(x, WIDTH);
  double *const sums = workspace.as<double>(), *const partial = sums + 2 * plan.channels;
  if (params.training || gw || gb) {
    LEYOLO_LAUNCH((norm_gradient_sums<T, WIDTH>), plan.grid(), kThreads, 0, stream, gradient.as<T>(), x.as<T>(),
                  or_null<A>(weight), or_null<A>(bias), mean.as<A>(), variance.as<A>(), partial, params.eps,
                  params.activation, plan);
    LEYOLO_LAUNCH(norm_gradient_finish<A>, blocks(plan.channels, 32), kThreads, 0, stream, partial, variance.as<A>(),
                  sums, or_null<A>(gw), or_null<A>(gb), params.eps, plan);
  }
  if (gx)
    LEYOLO_LAUNCH((norm_x_gradient<T, WIDTH>), plan.grid(), kThreads, 0, stream, gradient.as<T>(), x.as<T>(),
                  or_null<A>(weight), or_null<A>(bias), mean.as<A>(), variance.as<A>(),
                  params.training ? sums : nullptr, gx.as<T>(), params.eps, params.activation, plan);
}

// f(T(), WIDTH) for the storage type and the channels that a thread takes.
template <class F>
void for_channels(View x, F&& f, View more = View(), View other = View()) {
  for_float_cuda(x.dtype, "batch_norm_act", [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_same_v<T, double>)
      if (pairs_fit(x.shape[x.rank - 1], sizeof(T), x.data, more ? more.data : nullptr, other ? other.data : nullptr))
        return f(zero, std::integral_constant<int, 2>());
    f(zero, std::integral_constant<int, 1>());
  });
}

}  // namespace

int64_t batch_norm_act_workspace_cuda(View x) {
  int64_t const chunks = std::max(Plan(x, 1).chunks, Plan(x, 2).chunks);
  return (3 * chunks + 2) * x.shape[x.rank - 1] * 8;
}

void batch_norm_act_cuda(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                         BatchNormAct const& params, Context const& context) {
  for_channels(
      x,
      [&](auto zero, auto width) {
        forward<decltype(zero), decltype(width)::value>(x, weight, bias, mean, variance, y, workspace, params,
                                                        context.stream);
      },
      y);
}

void batch_norm_act_backward_cuda(View gradient, View x, View weight, View bias, View mean, View variance, View gx,
                                  View gw, View gb, View workspace, BatchNormAct const& params,
                                  Context const& context) {
  if (x.numel() == 0) {
    for (View const& v : {gw, gb})
      if (v) fill_zero(v.data, v.numel() * size_of(v.dtype), context.stream);
    return;
  }
  for_channels(
      x,
      [&](auto zero, auto width) {
        backward<decltype(zero), decltype(width)::value>(gradient, x, weight, bias, mean, variance, gx, gw, gb,
                                                         workspace, params, context.stream);
      },
      gradient, gx);
}

}  // namespace leyolo

// Forward. Statistics are Welford's, of differences from the first pixel: a mean far from zero neither disturbs the
// variance nor is rounded at its size in every step. Nothing but mean and variance is kept for the backward pass.
#include "core/sums.cuh"
#include "ops/batch_norm_act/batch_norm_act.cuh"

namespace leyolo {

namespace {

// Calls each(row, channels) for the pixels of this thread; kAtOnce loads are under way together.
template <class T, int WIDTH, class F>
__device__ __forceinline__ void each_pixel(T const* x, Plan const& plan, Place const& at, F&& each) {
  using C = Channels<T, WIDTH>;
  for (int64_t row = at.first; row < plan.rows; row += kAtOnce * at.step) {
    typename C::Word words[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (row + k * at.step < plan.rows) words[k] = C::load(x + (row + k * at.step) * plan.channels + at.channel);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (row + k * at.step >= plan.rows) break;
      typename C::A values[WIDTH];
      C::widen(words[k], values);
      each(row + k * at.step, values);
    }
  }
}

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
    each_pixel<T, WIDTH>(x, plan, at, [&](int64_t, A const(&value)[WIDTH]) {
      n += A(1);
      A const inverse = inverse_of(n);
#pragma unroll
      for (int v = 0; v < WIDTH; ++v) {
        A const from_origin = value[v] - origin[v], d = from_origin - mean[v];
        mean[v] += d * inverse;
        squares[v] += d * (from_origin - mean[v]);
      }
    });
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

template <class T, int WIDTH, class A = typename Channels<T, WIDTH>::A>
__global__ void __launch_bounds__(kThreads)
    norm_apply(T const* __restrict__ x, A const* __restrict__ weight, A const* __restrict__ bias,
               A const* __restrict__ mean, A const* __restrict__ variance, T* __restrict__ y, double eps,
               Activation activation, Plan plan) {
  using C = Channels<T, WIDTH>;
  Place const at(plan);
  if (!at.used) return;
  Affine<A, WIDTH> const affine(weight, bias, mean, variance, eps, at.channel);
  each_pixel<T, WIDTH>(x, plan, at, [&](int64_t row, A(&z)[WIDTH]) {
#pragma unroll
    for (int v = 0; v < WIDTH; ++v)
      z[v] = activate_device(activation, (z[v] - affine.mean[v]) * affine.scale[v] + affine.shift[v]);
    C::store(y + row * plan.channels + at.channel, z);
  });
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
  if (!y) return;
  LEYOLO_LAUNCH((norm_apply<T, WIDTH>), plan.grid(), kThreads, 0, stream, x.as<T>(), or_null<A>(weight),
                or_null<A>(bias), mean.as<A>(), variance.as<A>(), y.as<T>(), params.eps, params.activation, plan);
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

}  // namespace leyolo

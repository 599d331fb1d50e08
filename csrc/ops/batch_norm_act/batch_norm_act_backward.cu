// Backward: z is computed again from x. First the sums over all pixels, then, in a second pass over both maps, the
// gradient of x.
#include "core/sums.cuh"
#include "ops/batch_norm_act/batch_norm_act.cuh"

namespace leyolo {

namespace {

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

}  // namespace

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

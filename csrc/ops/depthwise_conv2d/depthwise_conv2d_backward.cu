// Backward. The gradient before the activation is the incoming one where there is no activation, else a forward pass
// writes it to the workspace. The rest is one kernel (depthwise_backward.cuh), or two for windows that are not its.
#include "ops/depthwise_conv2d/depthwise_backward.cuh"

namespace leyolo {

namespace {

// Maps as they lie in memory.
template <class T, int WIDTH>
struct PlainMaps {
  struct Arguments {};
  using C = Channels<T, WIDTH>;
  static constexpr bool kBias = true;

  T const *pre, *x;
  T* x_gradient;

  __device__ PlainMaps(T const* p, T const* from, T* to, Arguments, int, int) : pre(p), x(from), x_gradient(to) {}
  __device__ __forceinline__ void gradient(int64_t at, float (&to)[WIDTH]) const { C::widen(C::load(pre + at), to); }
  __device__ __forceinline__ typename C::Word enter(int64_t at) const { return C::load(x + at); }
  __device__ __forceinline__ bool wants() const { return x_gradient; }
  __device__ __forceinline__ void leave(int64_t at, float const (&dx)[WIDTH]) const { C::store(x_gradient + at, dx); }
  __device__ void finish(float*, int, int, MarchPlan const&) const {}
};

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
  MarchPlan plan;
  void* stream;

  template <class T>
  T* pointer(View v) const {
    return v ? v.as<T>() : nullptr;
  }

  template <class T, int K, int STRIDE, int WIDTH, int COLUMNS, int BLOCKS>
  void march() const {
    bool const sums = weight_gradient || bias_gradient;
    using Maps = PlainMaps<T, WIDTH>;
    LEYOLO_LAUNCH((depthwise_march_backward<T, K, STRIDE, WIDTH, COLUMNS, BLOCKS, Maps>),
                  unsigned(plan.groups * plan.chunks), kMarchThreads, 0, stream, pre.as<T>(), x.as<T>(), weight.as<T>(),
                  pointer<T>(x_gradient), sums ? partial : nullptr, typename Maps::Arguments(), sizes, plan);
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
  MarchPlan const plan = march_plan(s, x.dtype);
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
  b.plan = march_plan(b.sizes, x.dtype);
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
        case 31: return b.march<T, 3, 1, 2, march_columns(3, 1, sizeof(T)), 4>();
        case 32: return b.march<T, 3, 2, 2, march_columns(3, 2, sizeof(T)), 4>();
        case 51: return b.march<T, 5, 1, 2, march_columns(5, 1, sizeof(T)), 3>();
        case 52: return b.march<T, 5, 2, 2, march_columns(5, 2, sizeof(T)), 3>();
        case 71: return b.march<T, 7, 1, 1, march_columns(7, 1, sizeof(T)), 3>();
        case 72: return b.march<T, 7, 2, 1, march_columns(7, 2, sizeof(T)), 3>();
        default: return b.any<T, float>();
      }
    }
  });
}

}  // namespace leyolo

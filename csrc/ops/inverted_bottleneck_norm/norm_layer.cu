// Between the passes: from the sums of pieces to the constants of a norm; and norms of whole maps.
#include "core/sums.cuh"
#include "ops/inverted_bottleneck_norm/norm_layer.cuh"

namespace leyolo {

namespace {

constexpr int kChannels = 8, kSlices = kThreads / kChannels;

// A block for 8 channels; each slice of it takes every 32nd piece, so that few loads wait for one another.
__global__ void __launch_bounds__(kThreads)
    norm_settle(NormPieces pieces, NormValues values, NormConstants norm, int64_t pixels) {
  LEYOLO_SHARED(double, part, 3 * kThreads);
  int const slice = int(threadIdx.x) / kChannels, c = int(blockIdx.x) * kChannels + int(threadIdx.x) % kChannels;
  if (pieces.memory) {  // the same for all threads
    Moments<double> all;
    if (c < norm.channels)
      for (int i = slice; i < pieces.pieces; i += kSlices) {
        double const* const from = pieces.memory + int64_t(i) * 3 * norm.channels + c;
        all.merge(from[0], from[norm.channels], from[2 * norm.channels]);
      }
    part[threadIdx.x] = all.n, part[kThreads + threadIdx.x] = all.mean, part[2 * kThreads + threadIdx.x] = all.squares;
    __syncthreads();
    if (slice > 0 || c >= norm.channels) return;
    for (int t = int(threadIdx.x) + kChannels; t < kThreads; t += kChannels)
      all.merge(part[t], part[kThreads + t], part[2 * kThreads + t]);
    values.mean[c] = float(all.mean), values.variance[c] = float(all.squares / double(pixels));
  }
  if (slice > 0 || c >= norm.channels) return;
  norm.mean[c] = values.mean[c];
  norm.scale[c] = (values.weight ? values.weight[c] : 1.0f) / sqrt(values.variance[c] + float(values.eps));
  norm.shift[c] = values.bias ? values.bias[c] : 0.0f;
}

__global__ void __launch_bounds__(kThreads)
    norm_settle_gradient(NormPieces pieces, NormValues values, float* __restrict__ weight_gradient,
                         float* __restrict__ bias_gradient, NormConstants norm, int64_t pixels) {
  LEYOLO_SHARED(double, part, 2 * kThreads);
  int const slice = int(threadIdx.x) / kChannels, c = int(blockIdx.x) * kChannels + int(threadIdx.x) % kChannels;
  double sum = 0, product = 0, inverse = 0;
  if (c < norm.channels) inverse = 1.0 / sqrt(double(values.variance[c]) + values.eps);
  if (pieces.memory) {
    if (c < norm.channels)
      for (int i = slice; i < pieces.pieces; i += kSlices) {
        double const* const from = pieces.memory + int64_t(i) * 2 * norm.channels + c;
        sum += from[0], product += from[norm.channels];
      }
    part[threadIdx.x] = sum, part[kThreads + threadIdx.x] = product;
    __syncthreads();
    if (slice > 0 || c >= norm.channels) return;
    for (int t = int(threadIdx.x) + kChannels; t < kThreads; t += kChannels)
      sum += part[t], product += part[kThreads + t];
    product *= inverse;
    weight_gradient[c] = float(product), bias_gradient[c] = float(sum);
  } else {
    if (slice > 0 || c >= norm.channels) return;
    product = weight_gradient[c], sum = bias_gradient[c];
  }
  norm.offset[c] = float(sum / double(pixels)), norm.slope[c] = float(product * inverse / double(pixels));
}

// A division of 64 bits costs more than the rest of what a thread does.
__device__ __forceinline__ int channel_of(int64_t at, int channels, int64_t values) {
  return values >> 32 ? int(at % channels) : int(unsigned(at) % unsigned(channels));
}

// A thread for one value.
template <class T, Reads READS>
__global__ void __launch_bounds__(kThreads) norm_map(NormMap map, T const* added, T* to, int64_t values) {
  int64_t const at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= values) return;
  int const c = channel_of(at, map.channels, values);
  NormConstants const& n = map.norm;
  float v = float(static_cast<T const*>(map.values)[at]);
  if constexpr (READS == Reads::norm) v = activate_device(map.activation, (v - n.mean[c]) * n.scale[c] + n.shift[c]);
  if constexpr (READS == Reads::gradient)
    v = n.scale[c] * (v - n.offset[c] - (float(static_cast<T const*>(map.z)[at]) - n.mean[c]) * n.slope[c]);
  to[at] = T(added ? v + float(added[at]) : v);
}

template <class T>
__global__ void __launch_bounds__(kThreads) norm_slopes(NormMap z, T* gradient, int64_t values) {
  int64_t const at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= values) return;
  int const c = channel_of(at, z.channels, values);
  NormConstants const& n = z.norm;
  float const v = (float(static_cast<T const*>(z.values)[at]) - n.mean[c]) * n.scale[c] + n.shift[c];
  gradient[at] = T(float(gradient[at]) * activation_gradient_device(z.activation, v));
}

}  // namespace

void norm_settle_cuda(NormPieces const& pieces, NormValues const& values, NormConstants const& norm, int64_t pixels,
                      Context const& context) {
  LEYOLO_LAUNCH(norm_settle, blocks(norm.channels, kChannels), kThreads, 0, context.stream, pieces, values, norm,
                pixels);
}

void norm_settle_gradient_cuda(NormPieces const& pieces, NormValues const& values, float* weight_gradient,
                               float* bias_gradient, NormConstants const& norm, int64_t pixels,
                               Context const& context) {
  LEYOLO_LAUNCH(norm_settle_gradient, blocks(norm.channels, kChannels), kThreads, 0, context.stream, pieces, values,
                weight_gradient, bias_gradient, norm, pixels);
}

void norm_map_cuda(DType type, Reads reads, NormMap const& map, void const* added, void* to, int64_t pixels,
                   Context const& context) {
  int64_t const values = pixels * map.channels;
  for_map_type(type, [&](auto zero) {
    using T = decltype(zero);
    auto const with = [&](auto which) {
      LEYOLO_LAUNCH((norm_map<T, decltype(which)::value>), blocks(values), kThreads, 0, context.stream, map,
                    static_cast<T const*>(added), static_cast<T*>(to), values);
    };
    if (reads == Reads::norm) return with(std::integral_constant<Reads, Reads::norm>());
    if (reads == Reads::gradient) return with(std::integral_constant<Reads, Reads::gradient>());
    with(std::integral_constant<Reads, Reads::raw>());
  });
}

void norm_slopes_cuda(DType type, NormMap const& z, void* gradient, int64_t pixels, Context const& context) {
  int64_t const values = pixels * z.channels;
  for_map_type(type, [&](auto zero) {
    using T = decltype(zero);
    LEYOLO_LAUNCH(norm_slopes<T>, blocks(values), kThreads, 0, context.stream, z, static_cast<T*>(gradient), values);
  });
}

}  // namespace leyolo

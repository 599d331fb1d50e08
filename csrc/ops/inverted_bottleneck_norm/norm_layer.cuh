// What the CUDA kernels of a block in training share: the constants of a norm, how a map is read through it, and the
// launchers.
#pragma once

#include "core/sums.cuh"
#include "core/vectors.cuh"
#include "core/view.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"

namespace leyolo {

// float32, of `channels` channels each; readable up to padded(channels).
struct NormConstants {
  float *mean = nullptr, *scale = nullptr, *shift = nullptr;  // norm(z) = (z - mean) * scale + shift
  float *offset = nullptr, *slope = nullptr;  // gradient of z = scale * (dz - offset - (z - mean) * slope)
  int channels = 0;

  static int64_t padded(int64_t channels) { return (channels + 63) / 64 * 64; }
  static int64_t size(int64_t channels) { return 5 * padded(channels); }
  NormConstants() = default;
  NormConstants(float* memory, int64_t n) : channels(int(n)) {
    for (float** p : {&mean, &scale, &shift, &offset, &slope}) *p = memory, memory += padded(n);
  }
};

// A map [pixels, channels] as a product reads it: as it is; activation(norm(it)); or, from the gradient of norm(z) and
// z, the gradient of z.
enum class Reads { raw, norm, gradient };
struct NormMap {
  void const* values;
  void const* z;  // gradient only
  NormConstants norm;
  Activation activation;  // norm only
  int channels;
};

// What becomes of a product's results: z, of which the statistics are wanted; the gradient of activation(norm(z)), to
// be multiplied by the slopes of the activation, with the sums that the gradients of that norm need; or a gradient.
enum class Writes { statistics, slopes, gradient };
struct NormOutput {
  void* values;
  void const* bias;   // statistics only; [channels] or null
  void const* other;  // slopes: z; gradient: what is added, or null
  NormConstants norm;
  Activation activation;  // slopes only
  int channels;
};

// Pieces of a map whose statistics or sums lie side by side: of blocks that always take the same pixels.
struct NormPieces {
  double* memory;  // [pieces, 3 (count, mean, squares around it) or 2 (sums of dz, of dz (z - mean)), channels]
  int pieces;
};

// Weights as the products read them: [out rounded up to 64, in rounded up to 64], zeros behind.
int64_t pointwise_packed_size(int64_t out, int64_t in);  // values
// [out, in]; or its transpose, for the gradient of what a layer reads.
void pointwise_pack_cuda(View weight, bool transposed, void* packed, Context const& context);

// y[p, o] = sum over c of x[p, c] weight[o, c], in the type of the maps.
int pointwise_norm_pieces(int64_t pixels, int64_t out);
void pointwise_norm_cuda(DType type, Reads reads, NormMap const& x, void const* packed, Writes writes,
                         NormOutput const& y, double* pieces, int64_t pixels, Context const& context);

// gradient[o, c] = sum over p of g[p, o] x[p, c]; `x_reads`: raw or norm.
int pointwise_weight_pieces(int64_t pixels, int64_t out, int64_t in);
void pointwise_weight_cuda(DType type, NormMap const& g, Reads x_reads, NormMap const& x, float* pieces, View gradient,
                           int64_t pixels, Context const& context);

// z = depthwise(activation(norm(x))), and where `before` is null of x, with pieces of its statistics; the gradient of
// what it reads, with slopes and sums as Writes::slopes has them, or + added, and that of the weights.
struct FilterNorm {
  View x, weight, z;
  Depthwise params;
  NormConstants before;  // of x; without channels: there is none

  bool fits(Activation activation) const;  // else layer by layer
  int pieces(bool backward) const;
  int64_t workspace() const;  // bytes, of the backward pass
};
void depthwise_norm_cuda(FilterNorm const& layer, View bias, double* pieces, Context const& context);
void depthwise_norm_backward_cuda(FilterNorm const& layer, NormMap const& gradient, void const* added, void* x_gradient,
                                  View weight_gradient, double* pieces, void* workspace, Context const& context);

struct NormValues {
  float const *weight, *bias;  // or null
  float *mean, *variance;
  double eps;
};
// From pieces to mean, variance and constants of the forward pass; without pieces mean and variance are there already.
void norm_settle_cuda(NormPieces const& pieces, NormValues const& values, NormConstants const& norm, int64_t pixels,
                      Context const& context);
// From pieces to the gradients of weight and bias and the constants of the backward pass; without pieces the gradients
// are there already.
void norm_settle_gradient_cuda(NormPieces const& pieces, NormValues const& values, float* weight_gradient,
                               float* bias_gradient, NormConstants const& norm, int64_t pixels, Context const& context);

// to = what `reads` says of the map, + added (or null); to may be the map itself.
void norm_map_cuda(DType type, Reads reads, NormMap const& map, void const* added, void* to, int64_t pixels,
                   Context const& context);
// gradient *= activation'(norm(z)).
void norm_slopes_cuda(DType type, NormMap const& z, void* gradient, int64_t pixels, Context const& context);

// f(T()) for the types of maps.
template <class F>
void for_map_type(DType type, F&& f) {
  switch (type) {
    case DType::f32: return f(float());
    case DType::f16: return f(__half());
    default: return f(__nv_bfloat16());
  }
}

// Constants of N neighbouring channels, the first a multiple of 4, in registers.
template <Reads READS, int N>
struct ChannelConstants {
  float mean[N], scale[N], a[N], b[N];  // a: shift or offset; b: slope

  __device__ __forceinline__ void load(NormConstants const& norm, int channel) {
    if constexpr (READS == Reads::raw) return;
    bool const gradient = READS == Reads::gradient;
    four(norm.mean + channel, mean), four(norm.scale + channel, scale);
    four((gradient ? norm.offset : norm.shift) + channel, a);
    if (gradient) four(norm.slope + channel, b);
  }
  // Channel i; z counts for gradients only.
  __device__ __forceinline__ float operator()(int i, float value, float z, Activation activation) const {
    if constexpr (READS == Reads::raw) return value;
    if constexpr (READS == Reads::norm) return activate_device(activation, (value - mean[i]) * scale[i] + a[i]);
    return scale[i] * (value - a[i] - (z - mean[i]) * b[i]);
  }

 private:
  __device__ static __forceinline__ void four(float const* from, float (&to)[N]) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      float4 const v = __ldg(reinterpret_cast<float4 const*>(from + i));
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  }
};

// Of two neighbouring channels, the values that a thread has stored.
struct PairStatistics {
  float n = 0, origin[2] = {}, centre[2] = {}, squares[2] = {};

  __device__ __forceinline__ void add(float2 v) {
    if (n == 0) origin[0] = v.x, origin[1] = v.y;
    n += 1;
    float const inverse = inverse_of(n), from_origin[2] = {v.x - origin[0], v.y - origin[1]};
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float const d = from_origin[e] - centre[e];
      centre[e] += d * inverse;
      squares[e] += d * (from_origin[e] - centre[e]);
    }
  }
  __device__ double mean(int e) const { return n > 0 ? double(origin[e]) + double(centre[e]) : 0.0; }
};
struct PairSums {
  Total<float> dz[2], products[2];

  __device__ __forceinline__ void add(float2 v, float2 centred) {
    dz[0].add(v.x), dz[1].add(v.y);
    products[0].add(v.x * centred.x), products[1].add(v.y * centred.y);
  }
};

template <class T>
constexpr int kVector = 16 / int(sizeof(T));

template <class T>
union MapVector {
  uint4 word;
  T value[kVector<T>];
};

// A vector of channels of a pixel, zeros where there are none. `wide`: vectors are whole and aligned.
template <class T, Reads READS>
__device__ __forceinline__ uint4 read_vector(NormMap const& map, ChannelConstants<READS, kVector<T>> const& constants,
                                             int64_t pixel, bool inside, int channel, bool wide) {
  MapVector<T> v{}, z{};
  int64_t const at = pixel * map.channels + channel;
  int const left = inside ? map.channels - channel : 0;
  auto const read = [&](void const* from, MapVector<T>& to) {
    T const* const p = static_cast<T const*>(from);
    if (wide) {
      if (left > 0) to.word = load16(p + at);
    } else {
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) {
        T const value = p[i < left ? at + i : 0];
        if (i < left) to.value[i] = value;
      }
    }
  };
  read(map.values, v);
  if constexpr (READS != Reads::raw) {
    if (READS == Reads::gradient) read(map.z, z);
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      float const value = constants(i, float(v.value[i]), float(z.value[i]), map.activation);
      v.value[i] = i < left ? T(value) : T(0.0f);
    }
  }
  return v.word;
}

template <class T>
bool reads_wide(NormMap const& map) {
  return map.channels % kVector<T> == 0 && is_aligned(map.values, 16) && is_aligned(map.z, 16);
}

}  // namespace leyolo

// The matrix products of conv2d on tensor cores: [pixels x window] and [window x channels]. A block makes 64 or 128
// pixels of 32, 64 or 96 channels; each of its four warps has all of the channels of its pixels. Tiles of 64 bytes of
// the windows go through two buffers in shared memory by asynchronous copies; rows of 80 bytes spare ldmatrix bank
// conflicts. Columns are placed so that a lane ends with 8 neighbouring channels (b_place): whole vectors go out.
#pragma once

#include "core/mma.cuh"
#include "core/vectors.cuh"
#include "ops/conv2d/conv2d_kernels.cuh"

namespace leyolo {

namespace {

constexpr int kWarps = 4;

// Per storage type: values of a copy of 16 bytes, of a tile's row of a window, and from row to row in shared memory.
template <class T>
constexpr int kVector = 16 / int(sizeof(T));
template <class T>
constexpr int kDepth = 4 * kVector<T>;
template <class T>
constexpr int kRow = 5 * kVector<T>;

template <class T>
union Vector {
  uint4 word;
  T value[kVector<T>];
};

// How windows are read: vectors of channels that are a pixel's own (1 x 1), or of any tap; or value by value.
enum class Reads { pointwise, vectors, values };

// 8 channels of a pixel, or as many of them as there are.
template <class T>
__device__ __forceinline__ void finish(float (&v)[8], float const* bias, T const* residual, void* y, int64_t to,
                                       int left, Conv2dSizes const& s) {
  if (s.wide_y) {
    activate8(v, bias, s.activation);
    if (residual) add8(v, residual);
    if (s.float_y) {
      auto* const floats = reinterpret_cast<float4*>(static_cast<float*>(y) + to);
      floats[0] = {v[0], v[1], v[2], v[3]};
      floats[1] = {v[4], v[5], v[6], v[7]};
    } else if constexpr (!std::is_same_v<T, float>) {
      store8(v, static_cast<T*>(y) + to);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i >= left) break;
    float const value = activate_device(s.activation, v[i] + bias[i]) + (residual ? float(residual[i]) : 0.0f);
    if (s.float_y)
      static_cast<float*>(y)[to + i] = value;
    else
      static_cast<T*>(y)[to + i] = T(value);
  }
}

template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], unsigned const (&a)[4], unsigned const (&b)[2]) {
  if constexpr (std::is_same_v<T, float>)
    mma_1688_tf32(d, a, b);
  else
    mma_16816<T>(d, a, b);
}

// As many blocks on a multiprocessor as their registers allow without spilling.
constexpr int blocks_of(Reads reads, int m, int groups) {
  return m * groups > 4 ? 2 : m * groups > 3 || reads == Reads::values ? 3 : 4;
}

// M: tiles of 16 pixels of a warp, GROUPS: of 32 channels.
template <class T, class X, Reads READS, int M, int GROUPS>
__global__ void __launch_bounds__(32 * kWarps, blocks_of(READS, M, GROUPS))
    conv2d_mma(X const* __restrict__ x, T const* __restrict__ weight, float const* __restrict__ bias,
               T const* __restrict__ residual, void* __restrict__ y, Conv2dSizes s) {
  constexpr int kPixels = 16 * M * kWarps, kChannels = 32 * GROUPS, kStage = (kPixels + kChannels) * kRow<T>;
  LEYOLO_SHARED(uint4, memory, 2 * kStage / kVector<T>);
  T* const stages = reinterpret_cast<T*>(memory);
  int const thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32;
  int const tile = int(blockIdx.x / unsigned(s.channel_tiles));
  int const first_channel = int(blockIdx.x - unsigned(tile * s.channel_tiles)) * kChannels;
  int const first_pixel = tile * kPixels;

  // A thread copies the same vector of every 32nd row.
  int const column = thread % 4 * kVector<T>, line = thread / 4;
  constexpr int kLines = kPixels / 32;
  Conv2dPixel pixel[kLines];
#pragma unroll
  for (int i = 0; i < kLines; ++i) pixel[i] = Conv2dPixel(first_pixel + line + 32 * i, s);
  auto const load = [&](int begin, T* stage) {
    int const at = begin + column;
    int dy = 0, dx = 0, channel = at;
    if constexpr (READS == Reads::vectors) {
      int const tap = at / s.in_channels;
      dy = tap / s.kernel, dx = tap - dy * s.kernel, channel = at - tap * s.in_channels;
    }
    int64_t const offset = (int64_t(dy) * s.width + dx) * s.x_pitch + channel;
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      T* const to = stage + (line + 32 * i) * kRow<T> + column;
      Conv2dPixel const& p = pixel[i];
      if constexpr (READS == Reads::values) {
        Vector<T> all{};
#pragma unroll
        for (int e = 0; e < kVector<T>; ++e) all.value[e] = conv2d_value<T>(x, p, at + e, s);
        *reinterpret_cast<uint4*>(to) = all.word;
      } else {
        bool const inside =
            at < s.depth && unsigned(p.top + dy) < unsigned(s.height) && unsigned(p.left + dx) < unsigned(s.width);
        copy16_async(to, x + (inside ? p.origin + offset : 0), inside);
      }
    }
    T* const weights = stage + kPixels * kRow<T>;
#pragma unroll
    for (int i = 0; i < GROUPS; ++i) {
      int const n = line + 32 * i;
      bool const inside = at < s.row && first_channel + n < s.out_channels;
      copy16_async(weights + b_place(n) * kRow<T> + column,
                   weight + (inside ? int64_t(first_channel + n) * s.row + at : 0), inside);
    }
    copy_async_commit();
  };

  float sum[M][GROUPS][4][4] = {};
  load(0, stages);
  for (int begin = 0, stage = 0; begin < s.row; begin += kDepth<T>, stage ^= 1) {
    if (begin + kDepth<T> < s.row) {
      load(begin + kDepth<T>, stages + (stage ^ 1) * kStage);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    T const* const mine = stages + stage * kStage + warp * 16 * M * kRow<T>;
    T const* const weights = stages + stage * kStage + kPixels * kRow<T>;
#pragma unroll
    for (int k = 0; k < kDepth<T>; k += 2 * kVector<T>) {
      unsigned a[M][4];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        ldmatrix_x4(a[m], mine + (16 * m + a_row(lane)) * kRow<T> + k + a_column(lane, kVector<T>));
        if constexpr (std::is_same_v<T, float>) {  // weights come rounded
#pragma unroll
          for (unsigned& bits : a[m]) bits = tf32_of(bits);
        }
      }
#pragma unroll
      for (int pair = 0; pair < 2 * GROUPS; ++pair) {
        unsigned b[4];
        ldmatrix_x4(b, weights + (16 * pair + b_row(lane)) * kRow<T> + k + b_column(lane, kVector<T>));
#pragma unroll
        for (int m = 0; m < M; ++m) {
          multiply<T>(sum[m][pair / 2][pair % 2 * 2], a[m], {b[0], b[1]});
          multiply<T>(sum[m][pair / 2][pair % 2 * 2 + 1], a[m], {b[2], b[3]});
        }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const p = first_pixel + (warp * M + m) * 16 + 8 * half + lane / 4;
      if (p >= s.pixels) continue;
      int const image = p / s.area;
      int64_t const rest = p - image * s.area;
#pragma unroll
      for (int group = 0; group < GROUPS; ++group) {
        int const channel = first_channel + 32 * group + lane % 4 * 8;
        if (channel >= s.out_channels) continue;
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = sum[m][group][i / 2][2 * half + i % 2];
        finish(v, bias + channel,
               residual ? residual + image * s.residual_image + rest * s.residual_pitch + channel : nullptr, y,
               image * s.y_image + rest * s.y_pitch + channel, s.out_channels - channel, s);
      }
    }
}

template <class T, class X, Reads READS, int M, int GROUPS>
void run(Conv2dImages const& a, Conv2dSizes s, Context const& context) {
  s.channel_tiles = int(blocks(s.out_channels, 32 * GROUPS));
  auto const* const bias = static_cast<float const*>(a.packed);
  LEYOLO_LAUNCH((conv2d_mma<T, X, READS, M, GROUPS>), blocks(s.pixels, 16 * M * kWarps) * unsigned(s.channel_tiles),
                32 * kWarps, 0, context.stream, static_cast<X const*>(a.x),
                reinterpret_cast<T const*>(bias + conv2d_cuda_bias(s.out_channels)), bias,
                static_cast<T const*>(a.residual), a.y, s);
}

template <class T, Reads READS>
void run_tile(Conv2dImages const& a, Conv2dSizes const& s, Context const& context) {
  // The width that computes the fewest channels that do not exist; the widest of those.
  int const groups = int(blocks(s.out_channels, 32)), width = groups % 3 == 0   ? 3
                                                              : groups % 2 == 0 ? 2
                                                              : groups == 1     ? 1
                                                              : groups < 5      ? 2
                                                                                : 3;
  // Short tiles where tall ones would leave multiprocessors without work.
  bool const tall = int64_t(blocks(s.pixels, 128)) * blocks(groups, width) >= 2 * 132;
  switch (width) {
    case 1: return tall ? run<T, T, READS, 2, 1>(a, s, context) : run<T, T, READS, 1, 1>(a, s, context);
    case 2: return tall ? run<T, T, READS, 2, 2>(a, s, context) : run<T, T, READS, 1, 2>(a, s, context);
    default: return tall ? run<T, T, READS, 2, 3>(a, s, context) : run<T, T, READS, 1, 3>(a, s, context);
  }
}

// T: float16, bfloat16, or float32 in TF32.
template <class T>
void conv2d_tensor_cores(Conv2dImages const& a, Context const& context) {
  Conv2dSizes s = conv2d_sizes(a);
  s.wide_y = s.out_channels % 8 == 0 && s.y_pitch % 8 == 0 && s.y_image % 8 == 0 && is_aligned(a.y, 16) &&
             (!a.residual || (s.residual_pitch % 8 == 0 && s.residual_image % 8 == 0 && is_aligned(a.residual, 16)));
  constexpr bool kFloat = std::is_same_v<T, float>;
  bool const vectors = s.in_channels % kVector<T> == 0 && s.x_pitch % kVector<T> == 0 && s.x_image % kVector<T> == 0 &&
                       is_aligned(a.x, 16);
  if (a.x_type == DType::u8) return run<T, uint8_t, Reads::values, 2, 1>(a, s, context);
  if (!kFloat && a.x_type == DType::f32) return run<T, float, Reads::values, 2, 1>(a, s, context);
  if (!vectors) return run<T, T, Reads::values, 2, 1>(a, s, context);
  if (s.kernel == 1 && s.padding == 0) return run_tile<T, Reads::pointwise>(a, s, context);
  run_tile<T, Reads::vectors>(a, s, context);
}

}  // namespace

}  // namespace leyolo

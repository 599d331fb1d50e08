// Gradient of the weights of a 1x1 convolution: a product over all pixels of what its two maps hold once they have been
// read through their norms. A block makes 64 x 64 weights from a stretch of the pixels; the stretches are added up in
// their order.
#include <algorithm>

#include "core/mma.cuh"
#include "ops/inverted_bottleneck_norm/norm_layer.cuh"

namespace leyolo {

namespace {

constexpr int kTile = 64;
constexpr int64_t kMostBlocks = kShim ? 5 : 4 * 132;

// Pixels of a step, and from pixel to pixel in shared memory.
template <class T>
constexpr int kDepth = 4 * kVector<T>;
template <class T>
constexpr int kRow = kTile + kVector<T>;

struct Sizes {
  int64_t pixels;
  int out_tiles, in_tiles, pieces;
  bool wide_g, wide_x;
};

// sum += the transpose of g [kDepth, kTile] times x [kDepth, kTile].
template <class T>
struct Product {  // a warp: 16 x 32
  float sum[4][4] = {};

  __device__ __forceinline__ void add(T const* g, T const* x) {
    int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
    g += warp % 4 * 16, x += warp / 4 * 32;
#pragma unroll
    for (int k = 0; k < kDepth<T>; k += 16) {
      unsigned left[4];
      ldmatrix_x4_transposed(left, g + (k + b_row(lane)) * kRow<T> + b_column(lane));
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        unsigned right[4];
        ldmatrix_x4_transposed(right, x + (k + a_row(lane)) * kRow<T> + 16 * pair + a_column(lane));
        mma_16816<T>(sum[2 * pair], left, {right[0], right[1]});
        mma_16816<T>(sum[2 * pair + 1], left, {right[2], right[3]});
      }
    }
  }
  // f(row, column, value)
  template <class F>
  __device__ __forceinline__ void each(F&& f) const {
    int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        f(warp % 4 * 16 + lane / 4 + i / 2 * 8, warp / 4 * 32 + 8 * n + lane % 4 * 2 + i % 2, sum[n][i]);
  }
};

template <>
struct Product<float> {  // a thread: 4 x 4
  float sum[4][4] = {};

  __device__ __forceinline__ void add(float const* g, float const* x) {
    g += int(threadIdx.x) / 16 * 4, x += int(threadIdx.x) % 16 * 4;
#pragma unroll
    for (int k = 0; k < kDepth<float>; ++k) {
      float4 const left = *reinterpret_cast<float4 const*>(g + k * kRow<float>);
      float4 const right = *reinterpret_cast<float4 const*>(x + k * kRow<float>);
      float const l[] = {left.x, left.y, left.z, left.w}, r[] = {right.x, right.y, right.z, right.w};
#pragma unroll
      for (int m = 0; m < 4; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) sum[m][n] += l[m] * r[n];
    }
  }
  template <class F>
  __device__ __forceinline__ void each(F&& f) const {
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n) f(int(threadIdx.x) / 16 * 4 + m, int(threadIdx.x) % 16 * 4 + n, sum[m][n]);
  }
};

template <class T, Reads READS>
__global__ void __launch_bounds__(kThreads, 2)
    pointwise_weight(NormMap g, NormMap x, float* __restrict__ partial, Sizes s) {
  constexpr int kVectors = kTile / kVector<T>;
  LEYOLO_SHARED(uint4, memory, 2 * kDepth<T> * kRow<T> / kVector<T>);
  T *const left = reinterpret_cast<T*>(memory), *const right = left + kDepth<T> * kRow<T>;
  int const tile = int(blockIdx.x) % (s.out_tiles * s.in_tiles), piece = int(blockIdx.x) / (s.out_tiles * s.in_tiles);
  int const out = tile % s.out_tiles * kTile, in = tile / s.out_tiles * kTile;
  int const column = int(threadIdx.x) % kVectors * kVector<T>, line = int(threadIdx.x) / kVectors;
  int64_t const steps = (s.pixels + kDepth<T> - 1) / kDepth<T>;
  int64_t const begin = piece * steps / s.pieces, end = (piece + 1) * steps / s.pieces;
  ChannelConstants<Reads::gradient, kVector<T>> of_g;
  ChannelConstants<READS, kVector<T>> of_x;
  of_g.load(g.norm, out + column), of_x.load(x.norm, in + column);
  Product<T> product;
  for (int64_t step = begin; step < end; ++step) {
    int64_t const pixel = step * kDepth<T> + line;
    bool const inside = pixel < s.pixels;
    *reinterpret_cast<uint4*>(left + line * kRow<T> + column) =
        read_vector<T, Reads::gradient>(g, of_g, pixel, inside, out + column, s.wide_g);
    *reinterpret_cast<uint4*>(right + line * kRow<T> + column) =
        read_vector<T, READS>(x, of_x, pixel, inside, in + column, s.wide_x);
    __syncthreads();
    product.add(left, right);
    __syncthreads();
  }
  product.each([&](int row, int col, float value) {
    if (out + row < g.channels && in + col < x.channels)
      partial[(int64_t(piece) * g.channels + out + row) * x.channels + in + col] = value;
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    weight_sum(float const* __restrict__ partial, T* __restrict__ gradient, int pieces, int size) {
  int const at = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (at >= size) return;
  float sum = 0;
#pragma unroll 8
  for (int i = 0; i < pieces; ++i) sum += partial[int64_t(i) * size + at];
  gradient[at] = T(sum);
}

template <class T, Reads READS>
void run(NormMap const& g, NormMap const& x, float* pieces, Sizes s, Context const& context) {
  s.wide_g = reads_wide<T>(g), s.wide_x = reads_wide<T>(x);
  LEYOLO_LAUNCH((pointwise_weight<T, READS>), unsigned(s.out_tiles * s.in_tiles * s.pieces), kThreads, 0,
                context.stream, g, x, pieces, s);
}

}  // namespace

int pointwise_weight_pieces(int64_t pixels, int64_t out, int64_t in) {
  int64_t const tiles = int64_t(blocks(out, kTile)) * blocks(in, kTile);
  return int(std::clamp<int64_t>((pixels + 255) / 256, 1, std::max<int64_t>(1, kMostBlocks / tiles)));
}

void pointwise_weight_cuda(DType type, NormMap const& g, Reads x_reads, NormMap const& x, float* pieces, View gradient,
                           int64_t pixels, Context const& context) {
  Sizes const s{pixels,
                int(blocks(g.channels, kTile)),
                int(blocks(x.channels, kTile)),
                pointwise_weight_pieces(pixels, g.channels, x.channels),
                false,
                false};
  for_map_type(type, [&](auto zero) {
    using T = decltype(zero);
    x_reads == Reads::norm ? run<T, Reads::norm>(g, x, pieces, s, context)
                           : run<T, Reads::raw>(g, x, pieces, s, context);
    LEYOLO_LAUNCH(weight_sum<T>, blocks(gradient.numel()), kThreads, 0, context.stream, pieces, gradient.as<T>(),
                  s.pieces, int(gradient.numel()));
  });
}

}  // namespace leyolo

// Products of a map with the weights of a 1x1 convolution. What the norm in front of it needs is done to the values on
// their way into shared memory, what the norm behind it needs to the results on their way out: no map is read for its
// statistics, none is stored normalised. A block makes 128 pixels of 64 channels at a time, float16 and bfloat16 on
// tensor cores, and keeps the sums of its channels over all its tiles.
#include <algorithm>

#include "core/channels.cuh"
#include "core/mma.cuh"
#include "ops/inverted_bottleneck_norm/norm_layer.cuh"

namespace leyolo {

namespace {

constexpr int kPixels = 128, kChannels = 64;
constexpr int64_t kMostBlocks = kShim ? 5 : 8 * 132;
constexpr int kTileRow = kChannels + 8;  // of results in shared memory: few bank conflicts
constexpr int kGroups = kThreads / 32;   // rows of results that a block takes at the same time

// Of the products: values of a step, and from row to row in shared memory.
template <class T>
constexpr int kDepth = 4 * kVector<T>;
template <class T>
constexpr int kRow = 5 * kVector<T>;

struct Sizes {
  int64_t pixels;
  int tiles, chunks, channel_tiles;  // tiles of pixels; blocks that share them
  int row;                           // of packed weights
  bool wide, pairs;                  // vectors of what is read, pairs of what is written
};

// sum += a [kPixels, kDepth] times the transpose of b [kChannels, kDepth].
template <class T>
struct Product {  // a warp: 32 x 32
  float sum[2][4][4] = {};

  __device__ __forceinline__ void add(T const* a, T const* b) {
    int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
    a += warp % 4 * 32 * kRow<T>, b += warp / 4 * 32 * kRow<T>;
#pragma unroll
    for (int k = 0; k < kDepth<T>; k += 16) {
      unsigned left[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) ldmatrix_x4(left[m], a + (16 * m + a_row(lane)) * kRow<T> + k + a_column(lane));
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        unsigned right[4];
        ldmatrix_x4(right, b + (16 * pair + b_row(lane)) * kRow<T> + k + b_column(lane));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_16816<T>(sum[m][2 * pair], left[m], {right[0], right[1]});
          mma_16816<T>(sum[m][2 * pair + 1], left[m], {right[2], right[3]});
        }
      }
    }
  }
  __device__ __forceinline__ void put(float* tile) const {
    int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
    tile += (warp % 4 * 32 + lane / 4) * kTileRow + warp / 4 * 32 + lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          *reinterpret_cast<float2*>(tile + (16 * m + 8 * half) * kTileRow + 8 * n) = {sum[m][n][2 * half],
                                                                                       sum[m][n][2 * half + 1]};
  }
};

template <>
struct Product<float> {  // a thread: every 16th pixel of 8, 4 channels
  float sum[8][4] = {};

  __device__ __forceinline__ void add(float const* a, float const* b) {
    a += int(threadIdx.x) % 16 * kRow<float>, b += int(threadIdx.x) / 16 * 4 * kRow<float>;
#pragma unroll
    for (int k = 0; k < kDepth<float>; k += 4) {
      float4 right[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) right[n] = *reinterpret_cast<float4 const*>(b + n * kRow<float> + k);
#pragma unroll
      for (int m = 0; m < 8; ++m) {
        float4 const left = *reinterpret_cast<float4 const*>(a + 16 * m * kRow<float> + k);
#pragma unroll
        for (int n = 0; n < 4; ++n)
          sum[m][n] += left.x * right[n].x + left.y * right[n].y + left.z * right[n].z + left.w * right[n].w;
      }
    }
  }
  __device__ __forceinline__ void put(float* tile) const {
    tile += int(threadIdx.x) % 16 * kTileRow + int(threadIdx.x) / 16 * 4;
#pragma unroll
    for (int m = 0; m < 8; ++m)
      *reinterpret_cast<float4*>(tile + 16 * m * kTileRow) = {sum[m][0], sum[m][1], sum[m][2], sum[m][3]};
  }
};

// A thread takes two channels of every eighth pixel.
template <class T, Writes WRITES>
struct Results {
  static constexpr bool kStatistics = WRITES == Writes::statistics;

  NormOutput const& y;
  int channel, left;  // of the pair; how many of its channels exist
  bool pairs;
  float mean[2], scale[2], shift[2];
  std::conditional_t<kStatistics, PairStatistics, PairSums> sums;

  __device__ Results(NormOutput const& to, int first, bool whole) : y(to), channel(first), pairs(whole) {
    left = y.channels - channel;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      int const c = min(channel + e, y.channels - 1);
      if (WRITES == Writes::slopes) mean[e] = y.norm.mean[c], scale[e] = y.norm.scale[c], shift[e] = y.norm.shift[c];
      if (kStatistics) shift[e] = y.bias ? float(static_cast<T const*>(y.bias)[c]) : 0.0f;
    }
  }

  __device__ __forceinline__ void take(int64_t pixel, float2 v) {
    if (left <= 0) return;
    int64_t const at = pixel * y.channels + channel;
    float2 other{0, 0};
    if (!kStatistics && y.other) {
      T const* const p = static_cast<T const*>(y.other) + at;
      other = pairs ? widen_pair<T>(load_pair(p)) : float2{float(p[0]), left > 1 ? float(p[1]) : 0.0f};
    }
    if constexpr (kStatistics) v = {v.x + shift[0], v.y + shift[1]};
    if constexpr (WRITES == Writes::gradient) v = {v.x + other.x, v.y + other.y};
    if constexpr (WRITES == Writes::slopes) {
      other = {other.x - mean[0], other.y - mean[1]};
      v.x *= activation_gradient_device(y.activation, other.x * scale[0] + shift[0]);
      v.y *= activation_gradient_device(y.activation, other.y * scale[1] + shift[1]);
    }
    T* const to = static_cast<T*>(y.values) + at;
    if (pairs) {
      store_pair(to, v);
    } else {
      to[0] = T(v.x);
      if (left > 1) to[1] = T(v.y);
    }
    // Of the values as they are stored: what follows reads those.
    v = {float(T(v.x)), float(T(v.y))};
    if constexpr (kStatistics) sums.add(v);
    if constexpr (WRITES == Writes::slopes) sums.add(v, other);
  }

  // Adds up the threads that share channels, in their order. `shared`: [3, kGroups, kChannels]
  __device__ void finish(double* shared, double* piece) const {
    if constexpr (WRITES != Writes::gradient) {
      constexpr int kPart = kGroups * kChannels;
      int const own = int(threadIdx.x) / 32 * kChannels + int(threadIdx.x) % 32 * 2;
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if constexpr (kStatistics) {
          shared[own + e] = sums.n, shared[kPart + own + e] = sums.mean(e);
          shared[2 * kPart + own + e] = sums.squares[e];
        } else {
          shared[own + e] = sums.dz[e].value(), shared[kPart + own + e] = sums.products[e].value();
        }
      __syncthreads();
      int const c = int(threadIdx.x), at = channel - own % kChannels + c;
      if (c >= kChannels || at >= y.channels) return;
      if constexpr (kStatistics) {
        Moments<double> all;
        for (int i = c; i < kPart; i += kChannels) all.merge(shared[i], shared[kPart + i], shared[2 * kPart + i]);
        piece[at] = all.n, piece[y.channels + at] = all.mean, piece[2 * y.channels + at] = all.squares;
      } else {
        double dz = 0, products = 0;
        for (int i = c; i < kPart; i += kChannels) dz += shared[i], products += shared[kPart + i];
        piece[at] = dz, piece[y.channels + at] = products;
      }
    }
  }
};

template <class T, Reads READS, Writes WRITES>
__global__ void __launch_bounds__(kThreads, 2)
    pointwise_norm(NormMap x, T const* __restrict__ packed, NormOutput y, double* __restrict__ pieces, Sizes s) {
  LEYOLO_SHARED(uint4, memory, kPixels * kTileRow / 4);  // operands of a step, then results, at last sums
  T *const a = reinterpret_cast<T*>(memory), *const b = a + kPixels * kRow<T>;
  float* const tile = reinterpret_cast<float*>(memory);
  int const thread = int(threadIdx.x), chunk = int(blockIdx.x) / s.channel_tiles;
  int const first_channel = int(blockIdx.x) % s.channel_tiles * kChannels;
  int const column = thread % 4 * kVector<T>, line = thread / 4;
  Results<T, WRITES> results(y, first_channel + thread % 32 * 2, s.pairs);
  for (int i = chunk; i < s.tiles; i += s.chunks) {
    int64_t const first = int64_t(i) * kPixels;
    Product<T> product;
    for (int begin = 0; begin < x.channels; begin += kDepth<T>) {
      ChannelConstants<READS, kVector<T>> constants;
      constants.load(x.norm, begin + column);
#pragma unroll
      for (int row = line; row < kPixels; row += kThreads / 4)
        *reinterpret_cast<uint4*>(a + row * kRow<T> + column) =
            read_vector<T, READS>(x, constants, first + row, first + row < s.pixels, begin + column, s.wide);
      *reinterpret_cast<uint4*>(b + line * kRow<T> + column) =
          *reinterpret_cast<uint4 const*>(packed + int64_t(first_channel + line) * s.row + begin + column);
      __syncthreads();
      product.add(a, b);
      __syncthreads();
    }
    product.put(tile);
    __syncthreads();
#pragma unroll 4
    for (int row = thread / 32; row < kPixels; row += kGroups) {
      if (first + row >= s.pixels) break;
      results.take(first + row, *reinterpret_cast<float2 const*>(tile + row * kTileRow + thread % 32 * 2));
    }
    __syncthreads();
  }
  constexpr int kValues = WRITES == Writes::statistics ? 3 : 2;
  results.finish(reinterpret_cast<double*>(memory), pieces + int64_t(chunk) * kValues * y.channels);
}

template <class T, Reads READS, Writes WRITES>
void run(NormMap const& x, void const* packed, NormOutput const& y, double* pieces, Sizes s, Context const& context) {
  s.wide = reads_wide<T>(x);
  s.pairs = pairs_fit(y.channels, sizeof(T), y.values, y.other);
  LEYOLO_LAUNCH((pointwise_norm<T, READS, WRITES>), unsigned(s.channel_tiles * s.chunks), kThreads, 0, context.stream,
                x, static_cast<T const*>(packed), y, pieces, s);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pointwise_pack(T const* __restrict__ weight, T* __restrict__ packed, int rows, int columns, int row_step,
                   int column_step, int row, int64_t size) {
  int64_t const at = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (at >= size) return;
  int const r = int(at / row), c = int(at % row);
  packed[at] = r < rows && c < columns ? weight[int64_t(r) * row_step + int64_t(c) * column_step] : T(0.0f);
}

int64_t whole_tiles(int64_t n) { return (n + kChannels - 1) / kChannels * kChannels; }

}  // namespace

int64_t pointwise_packed_size(int64_t out, int64_t in) { return whole_tiles(out) * whole_tiles(in); }

void pointwise_pack_cuda(View weight, bool transposed, void* packed, Context const& context) {
  int const out = int(weight.shape[0]), in = int(weight.shape[1]);
  int const rows = transposed ? in : out, columns = transposed ? out : in;
  int64_t const size = pointwise_packed_size(rows, columns);
  for_map_type(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    LEYOLO_LAUNCH(pointwise_pack<T>, blocks(size), kThreads, 0, context.stream, weight.as<T>(), static_cast<T*>(packed),
                  rows, columns, transposed ? 1 : in, transposed ? in : 1, int(whole_tiles(columns)), size);
  });
}

int pointwise_norm_pieces(int64_t pixels, int64_t out) {
  int64_t const tiles = (pixels + kPixels - 1) / kPixels, channel_tiles = whole_tiles(out) / kChannels;
  return int(std::clamp<int64_t>(kMostBlocks / channel_tiles, 1, tiles));
}

void pointwise_norm_cuda(DType type, Reads reads, NormMap const& x, void const* packed, Writes writes,
                         NormOutput const& y, double* pieces, int64_t pixels, Context const& context) {
  Sizes const s{pixels,
                int((pixels + kPixels - 1) / kPixels),
                pointwise_norm_pieces(pixels, y.channels),
                int(whole_tiles(y.channels) / kChannels),
                int(whole_tiles(x.channels)),
                false,
                false};
  for_map_type(type, [&](auto zero) {
    using T = decltype(zero);
    if (writes == Writes::gradient)
      run<T, Reads::gradient, Writes::gradient>(x, packed, y, pieces, s, context);
    else if (writes == Writes::slopes)
      run<T, Reads::gradient, Writes::slopes>(x, packed, y, pieces, s, context);
    else if (reads == Reads::norm)
      run<T, Reads::norm, Writes::statistics>(x, packed, y, pieces, s, context);
    else
      run<T, Reads::raw, Writes::statistics>(x, packed, y, pieces, s, context);
  });
}

}  // namespace leyolo

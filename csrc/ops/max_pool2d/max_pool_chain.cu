// A block of threads makes a tile of 10 x 10 pixels of two vectors of channels, of all three pools: x is read once,
// with a border of six pixels, and each pool is a maximum along rows, then along columns, in shared memory.
#include "core/vectors.cuh"
#include "ops/max_pool2d/max_pool2d_cuda.h"

namespace leyolo {

namespace {

constexpr int kTile = 10, kPools = 3, kReach = 2, kWindow = 2 * kReach + 1;
constexpr int kSide = kTile + 2 * kPools * kReach, kVectors = 2;

template <class T>
struct alignas(16) Vector {
  T value[16 / sizeof(T)];
};

// As in torch, NaN wins.
template <class T>
__device__ __forceinline__ void take(Vector<T>& best, Vector<T> const& v) {
#pragma unroll
  for (int e = 0; e < int(16 / sizeof(T)); ++e)
    if (float(v.value[e]) > float(best.value[e]) || float(v.value[e]) != float(v.value[e])) best.value[e] = v.value[e];
}

// The largest of kWindow vectors, `step` apart.
template <class T>
__device__ __forceinline__ Vector<T> largest(Vector<T> const* from, int step) {
  Vector<T> best = *from;
#pragma unroll
  for (int i = 1; i < kWindow; ++i) take(best, from[i * step]);
  return best;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool_chain(MaxPoolChain a, int row_tiles, int column_tiles, int vector_tiles) {
  using V = Vector<T>;
  LEYOLO_SHARED(V, map, kSide * kSide * kVectors);
  LEYOLO_SHARED(V, rows, kSide * kSide * kVectors);
  int const group = int(blockIdx.x) % vector_tiles, tile = int(blockIdx.x) / vector_tiles;
  int const line = tile / column_tiles, image = line / row_tiles;
  int const row = (line - image * row_tiles) * kTile, column = (tile - line * column_tiles) * kTile;
  // Of a thread: always the same vector. Pixels of the square count from `kPools * kReach` above and left of the tile.
  int const vector = int(threadIdx.x) % kVectors, channel = (group * kVectors + vector) * int(16 / sizeof(T));
  int64_t const start = image * a.image + channel;
  auto const inside = [&](int r, int c) {
    return unsigned(row - kPools * kReach + r) < unsigned(a.height) &&
           unsigned(column - kPools * kReach + c) < unsigned(a.width) && channel < a.channels;
  };
  auto const place = [&](int r, int c) {
    return start + (int64_t(row - kPools * kReach + r) * a.width + column - kPools * kReach + c) * a.pitch;
  };
  V nothing;
#pragma unroll
  for (int e = 0; e < int(16 / sizeof(T)); ++e) nothing.value[e] = T(-INFINITY);
  for (int i = int(threadIdx.x); i < kSide * kSide * kVectors; i += kThreads) {
    int const pixel = i / kVectors, r = pixel / kSide, c = pixel - r * kSide;
    V given = nothing;
    if (inside(r, c)) given = *reinterpret_cast<V const*>(static_cast<T const*>(a.x) + place(r, c));
    map[i] = given;
  }
#pragma unroll 1
  for (int pool = 0; pool < kPools; ++pool) {
    // Of the square, what this pool makes.
    int const begin = kReach * (pool + 1), side = kSide - 2 * begin;
    __syncthreads();
    for (int i = int(threadIdx.x); i < (side + 2 * kReach) * side * kVectors; i += kThreads) {
      int const pixel = i / kVectors, r = begin - kReach + pixel / side, c = begin + pixel % side;
      rows[(r * kSide + c) * kVectors + vector] = largest(map + (r * kSide + c - kReach) * kVectors + vector, kVectors);
    }
    __syncthreads();
    T* const y = static_cast<T*>(a.y) + pool * a.next;
    for (int i = int(threadIdx.x); i < side * side * kVectors; i += kThreads) {
      int const pixel = i / kVectors, r = begin + pixel / side, c = begin + pixel % side;
      int const at = (r * kSide + c) * kVectors + vector;
      V best = largest(rows + at - kReach * kSide * kVectors, kSide * kVectors);
      bool const there = inside(r, c);
      if (!there) best = nothing;
      map[at] = best;
      bool const own = unsigned(r - kPools * kReach) < kTile && unsigned(c - kPools * kReach) < kTile;
      if (own && there) *reinterpret_cast<V*>(y + place(r, c)) = best;
    }
  }
}

template <class T>
void run(MaxPoolChain const& a, Context const& context) {
  int const rows = int(blocks(a.height, kTile)), columns = int(blocks(a.width, kTile)),
            vectors = int(blocks(a.channels, kVectors * int(16 / sizeof(T))));
  LEYOLO_LAUNCH(max_pool_chain<T>, unsigned(a.images * rows * columns * vectors), kThreads, 0, context.stream, a, rows,
                columns, vectors);
}

}  // namespace

void max_pool_chain_cuda(MaxPoolChain const& a, DType type, Context const& context) {
  int64_t const width = 16 / size_of(type);
  check(is_aligned(a.x, 16) && is_aligned(a.y, 16) && (a.next | a.pitch | a.channels | a.image) % width == 0,
        "max_pool2d: a chain of pools needs aligned vectors of 16 bytes, got ", a.channels, " channels of ", type,
        " with pitch ", a.pitch);
  if (type == DType::f16) return run<__half>(a, context);
  if (type == DType::bf16) return run<__nv_bfloat16>(a, context);
  run<float>(a, context);
}

}  // namespace leyolo

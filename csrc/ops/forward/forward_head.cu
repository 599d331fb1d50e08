// One launch: a block of threads makes a tile of one branch of one level. Its part of x, with a border of two pixels,
// stays in shared memory; the branch's channels go by in slices of 32: expand on tensor cores -> two depthwise
// convolutions, whose map in between has a border of one pixel and is zero outside the image -> project on tensor
// cores, whose sums stay in registers over all slices. Maps in between are in no memory.
#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/forward/forward_head.h"
#include "ops/inverted_bottleneck/bottleneck_tile.cuh"

namespace leyolo {

namespace {

constexpr int kWarps = 8, kTaps = 9;

template <class T>
struct Branch {
  T const *x, *expand, *first, *second, *project;
  float const *expand_bias, *first_bias, *second_bias, *project_bias;
  float* y;
  int64_t x_image, y_image;
  int height, width, x_pitch, y_pitch, in_channels, middle, out_channels;
  int x_row, expand_row, tap_row, project_row;
  int rows, columns, row_tiles, column_tiles;
  int first_block;
  bool wide;  // y consists of aligned vectors of 4 values
  Activation activation;
};

template <class T>
struct Branches {
  Branch<T> branch[kMostHeadBranches];
  int count;
};

// Shared memory of a block of threads; forward_head_tile.cpp counts the same. Two stages of weights: of the expansion,
// of the projection, of both filters.
template <class T>
struct HeadMemory {
  T *weights, *x, *expanded, *middle, *filtered;
  unsigned char* inside;
  int stage, project, taps;

  __device__ __forceinline__ HeadMemory(T* p, Branch<T> const& b) {
    int const pixels = ((b.rows + 4) * (b.columns + 6) + 15) / 16 * 16;
    project = kSlice * b.x_row;
    taps = project + (b.out_channels + 31) / 32 * 32 * kRow;
    stage = taps + 2 * kTaps * kSlice;
    weights = p;
    x = weights + 2 * stage;
    expanded = x + pixels * b.x_row;
    middle = expanded + pixels * kSlice;
    filtered = middle + (b.rows + 2) * (b.columns + 4) * kSlice;
    inside = reinterpret_cast<unsigned char*>(filtered + 16 * kWarps * kRow);
  }
};

template <class T>
__device__ __forceinline__ void load_weights(Branch<T> const& b, HeadMemory<T> const& m, int slice, T* to) {
  load_rows(to, b.x_row, b.expand, b.expand_row, slice, b.middle, 0, kSlice, (b.x_row - 8) / 8);
  load_rows(to + m.project, kRow, b.project, b.project_row, 0, b.out_channels, slice, (b.out_channels + 31) / 32 * 32,
            4);
  load_taps(to + m.taps, b.first, b.tap_row, b.middle, slice, kTaps);
  load_taps(to + m.taps + kTaps * kSlice, b.second, b.tap_row, b.middle, slice, kTaps);
}

template <class T, int GROUPS>
__global__ void __launch_bounds__(32 * kWarps, GROUPS < 4 ? 2 : 1)
    detect_head(__grid_constant__ Branches<T> const all) {
  LEYOLO_DYNAMIC_SHARED(T, memory);
  int index = 0;
  while (index + 1 < all.count && int(blockIdx.x) >= all.branch[index + 1].first_block) ++index;
  Branch<T> const& b = all.branch[index];
  HeadMemory<T> const m(memory, b);
  int const tiles = b.row_tiles * b.column_tiles, number = (int(blockIdx.x) - b.first_block) / tiles;
  int const tile = int(blockIdx.x) - b.first_block - number * tiles;
  int const row = tile / b.column_tiles * b.rows, column = tile % b.column_tiles * b.columns;
  TileSource<T> const source{b.x + number * b.x_image,
                             nullptr,
                             b.height,
                             b.width,
                             b.x_pitch,
                             b.in_channels,
                             0,
                             0,
                             row - 2,
                             column - 2,
                             b.columns + 6,
                             (b.rows + 4) * (b.columns + 6)};
  source.mark(m.inside);
  source.load(m.x, b.x_row, 0, (b.x_row - 8) / 8);
  load_weights(b, m, 0, m.weights);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();

  auto const in_image = [&](int r, int c) { return source.holds(row - 1 + r, column - 1 + c); };
  constexpr int kRows = GROUPS < 3 ? 2 : 1;  // as many as there are registers for
  auto const everywhere = [](int, int) { return true; };
  float sum[GROUPS][4][4] = {};
  T *weights = m.weights, *next = m.weights + m.stage;
  for (int slice = 0; slice < b.middle; slice += kSlice) {
    int const left = b.middle - slice;
    expand(m.x, m.inside, m.expanded, weights, b.expand_bias + slice, source.pixels, b.x_row, left, b.activation);
    __syncthreads();  // also: all warps are done with the other stage
    if (slice + kSlice < b.middle) load_weights(b, m, slice + kSlice, next);
    copy_async_commit();
    filter<T, 3, 1, kRows, kSlice>(m.expanded, weights + m.taps, b.first_bias + slice, m.middle,
                                   {b.rows + 2, b.columns + 4, b.columns + 6, left, b.activation}, in_image);
    __syncthreads();
    filter<T, 3, 1, kRows, kRow>(m.middle, weights + m.taps + kTaps * kSlice, b.second_bias + slice, m.filtered,
                                 {b.rows, b.columns, b.columns + 4, left, b.activation}, everywhere);
    copy_async_wait<0>();
    __syncthreads();
    project<T, GROUPS>(sum, m.filtered, weights + m.project);
    T* const used = weights;
    weights = next, next = used;
  }

  int const lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int const pixel = 16 * warp + 8 * half + lane / 4, line = pixel / b.columns;
    int const r = row + line, c = column + pixel - line * b.columns;
    if (line >= b.rows || r >= b.height || c >= b.width) continue;
    float* const to = b.y + number * b.y_image + (int64_t(r) * b.width + c) * b.y_pitch;
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
      int const channel = 32 * group + lane % 4 * 8;
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i)
        v[i] =
            sum[group][i / 2][2 * half + i % 2] + (channel + i < b.out_channels ? b.project_bias[channel + i] : 0.0f);
      if (b.wide && channel + 8 <= b.out_channels) {
        *reinterpret_cast<float4*>(to + channel) = {v[0], v[1], v[2], v[3]};
        *reinterpret_cast<float4*>(to + channel + 4) = {v[4], v[5], v[6], v[7]};
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (channel + i < b.out_channels) to[channel + i] = v[i];
      }
    }
  }
}

struct Device {
  int shared, multiprocessors;
};

Device this_device() {
  int device = 0;
  Device d{};
  check_cuda("detect_head", cudaGetDevice(&device));
  check_cuda("detect_head", cudaDeviceGetAttribute(&d.shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check_cuda("detect_head", cudaDeviceGetAttribute(&d.multiprocessors, cudaDevAttrMultiProcessorCount, device));
  return d;
}

template <class T>
Branch<T> branch_of(HeadBranch const& a, HeadTile const& tile) {
  auto const values = [](void const* packed, int64_t bias) {
    return reinterpret_cast<T const*>(static_cast<float const*>(packed) + bias);
  };
  auto const bias = [&](void const* packed) { return static_cast<float const*>(packed) + a.first_channel; };
  int const expand_row = int(conv2d_cuda_row(a.in_channels));
  return {static_cast<T const*>(a.x),
          values(a.expand, conv2d_cuda_bias(a.all_channels)) + int64_t(a.first_channel) * expand_row,
          values(a.first, depthwise_cuda_bias(a.all_channels)) + a.first_channel,
          values(a.second, depthwise_cuda_bias(a.all_channels)) + a.first_channel,
          values(a.project, conv2d_cuda_bias(a.out_channels)),
          bias(a.expand),
          bias(a.first),
          bias(a.second),
          static_cast<float const*>(a.project),
          a.y,
          a.x_image,
          a.y_image,
          a.height,
          a.width,
          a.x_pitch,
          a.y_pitch,
          a.in_channels,
          a.middle_channels,
          a.out_channels,
          (a.in_channels + 15) / 16 * 16 + 8,
          expand_row,
          int(depthwise_cuda_row(a.all_channels)),
          int(conv2d_cuda_row(a.middle_channels)),
          tile.rows,
          tile.columns,
          int(blocks(a.height, tile.rows)),
          int(blocks(a.width, tile.columns)),
          0,
          (a.y_pitch | a.y_image) % 4 == 0 && is_aligned(a.y, 16),
          a.activation};
}

template <class T>
void run(HeadBranch const* branches, int count, int64_t images, Context const& context) {
  Device const device = this_device();
  Branches<T> all{};
  int64_t grid = 0, shared = 0;
  int most = 0;
  for (int i = 0; i < count; ++i) {
    HeadBranch const& a = branches[i];
    HeadTile const tile =
        head_tile(images, a.height, a.width, a.in_channels, a.out_channels, device.shared, device.multiprocessors);
    all.branch[i] = branch_of<T>(a, tile);
    all.branch[i].first_block = int(grid);
    grid += images * all.branch[i].row_tiles * all.branch[i].column_tiles;
    shared = std::max(shared, tile.shared), most = std::max(most, a.out_channels);
  }
  all.count = count;
  auto const go = [&](auto groups) {
    LEYOLO_LAUNCH((detect_head<T, decltype(groups)::value>), unsigned(grid), 32 * kWarps, size_t(shared),
                  context.stream, all);
  };
  if (most <= 64) return go(std::integral_constant<int, 2>());
  most <= 96 ? go(std::integral_constant<int, 3>()) : go(std::integral_constant<int, 4>());
}

}  // namespace

void head_images_cuda(HeadBranch const* branches, int count, int64_t images, DType type, Context const& context) {
  check(count > 0 && count <= kMostHeadBranches && (type == DType::f16 || type == DType::bf16),
        "detect_head: expected 1 to ", kMostHeadBranches, " branches in float16 or bfloat16, got ", count, " in ",
        type);
  int const shared = this_device().shared;
  for (int i = 0; i < count; ++i) {
    HeadBranch const& a = branches[i];
    check(head_fits(a.in_channels, a.middle_channels, a.out_channels, shared) && a.first_channel % 8 == 0 &&
              (a.x_pitch | a.x_image) % 8 == 0 && is_aligned(a.x, 16),
          "detect_head: no kernel for ", a.in_channels, " -> ", a.middle_channels, " -> ", a.out_channels,
          " channels from ", a.first_channel, ", pitch ", a.x_pitch);
  }
  if (type == DType::f16) return run<__half>(branches, count, images, context);
  run<__nv_bfloat16>(branches, count, images, context);
}

}  // namespace leyolo

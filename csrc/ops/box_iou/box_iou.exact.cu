// All pairs: a thread keeps four boxes of boxes2 in registers and meets with them a piece of boxes1 from shared memory,
// one row of the result after the other.
#include "ops/box_iou/box_iou.cuh"
#include "ops/box_iou/box_iou.h"

namespace leyolo {

namespace {

constexpr int kColumnsPerThread = 4, kLeastRows = 64;

template <class A>
struct alignas(16) Slot {
  IouBox<A> box;
};

struct Tiles {
  int64_t n, m;
  int lanes;             // threads along a row of the result, a power of two
  int rows;              // of a tile
  int64_t down, across;  // tiles of one image
};

// `adjacent`: the columns of a thread lie side by side and are stored together; else `lanes` apart, so that every
// single store of a warp is dense.
template <BoxIou kind, bool adjacent, class A, class T>
__global__ void __launch_bounds__(kThreads) box_iou_kernel(T const* boxes1, T const* boxes2, A* out, Tiles tiles,
                                                           BoxFormat format, A eps, bool aligned1, bool aligned2) {
  LEYOLO_SHARED(Slot<A>, row, kThreads);
  int64_t const tile = int64_t(blockIdx.x) / tiles.across, image = tile / tiles.down;
  int64_t const first_row = tile % tiles.down * tiles.rows;
  int64_t const first_column = int64_t(blockIdx.x) % tiles.across * (tiles.lanes * kColumnsPerThread);
  int const rows = int(min_of<int64_t>(tiles.rows, tiles.n - first_row));
  int const x = threadIdx.x & (tiles.lanes - 1), y = threadIdx.x / tiles.lanes, step = kThreads / tiles.lanes;
  for (int i = threadIdx.x; i < rows; i += kThreads)
    row[i].box = iou_box<A>(load_four(boxes1 + 4 * (image * tiles.n + first_row + i), aligned1).value, format, kind);
  int64_t column[kColumnsPerThread];
  IouBox<A> mine[kColumnsPerThread];
#pragma unroll
  for (int k = 0; k < kColumnsPerThread; ++k) {
    column[k] = first_column + (adjacent ? kColumnsPerThread * x + k : x + k * tiles.lanes);
    if (column[k] < tiles.m)
      mine[k] = iou_box<A>(load_four(boxes2 + 4 * (image * tiles.m + column[k]), aligned2).value, format, kind);
    else
      mine[k] = IouBox<A>{};
  }
  __syncthreads();
  for (int i = y; i < rows; i += step) {
    A* const to = out + (image * tiles.n + first_row + i) * tiles.m;
    IouBox<A> const box = row[i].box;
    FourNumbers<A> score;
#pragma unroll
    for (int k = 0; k < kColumnsPerThread; ++k) {
      IouPair<kind, false, A, A> pair;
      score.value[k] = pair.score(box, mine[k], eps);
    }
    if constexpr (adjacent) {
      if (column[0] < tiles.m) store_four(to + column[0], true, score);
    } else {
#pragma unroll
      for (int k = 0; k < kColumnsPerThread; ++k)
        if (column[k] < tiles.m) to[column[k]] = score.value[k];
    }
  }
}

template <BoxIou kind, class A, class T>
void run(View boxes1, View boxes2, View out, IouParams const& params, Context const& context) {
  Tiles t{boxes1.shape[1], boxes2.shape[1], 1, 0, 0, 0};
  while (t.lanes < 64 && t.lanes * kColumnsPerThread < t.m) t.lanes *= 2;
  t.rows = std::max(kLeastRows, kThreads / t.lanes);
  int64_t const columns = t.lanes * kColumnsPerThread;
  t.down = (t.n + t.rows - 1) / t.rows, t.across = (t.m + columns - 1) / columns;
  unsigned const grid = unsigned(boxes1.shape[0] * t.down * t.across);
  auto const launch = [&](auto adjacent) {
    LEYOLO_LAUNCH((box_iou_kernel<kind, decltype(adjacent)::value, A, T>), grid, kThreads, 0, context.stream,
                  boxes1.as<T>(), boxes2.as<T>(), out.as<A>(), t, params.format, A(params.eps),
                  is_aligned(boxes1.as<T>()), is_aligned(boxes2.as<T>()));
  };
  t.m % kColumnsPerThread == 0 && is_aligned(out.as<A>()) ? launch(std::true_type()) : launch(std::false_type());
}

}  // namespace

void box_iou_cuda(View boxes1, View boxes2, View out, IouParams const& params, Context const& context) {
  if (out.numel() == 0) return;
  for_float_cuda(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    for_kind_cuda(params.kind, [&](auto kind) {
      run<decltype(kind)::value, iou_float<T>, T>(boxes1, boxes2, out, params, context);
    });
  });
}

}  // namespace leyolo

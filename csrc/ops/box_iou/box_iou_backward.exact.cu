// Gradients of all pairs. A warp owns a box of boxes1 and goes along its row of the gradient; a column of warps owns 32
// boxes of boxes2 and goes down. Each sum has one fixed order, and everything is computed again from the coordinates.
#include "ops/box_iou/box_iou.cuh"
#include "ops/box_iou/box_iou.h"

namespace leyolo {

namespace {

constexpr int kWarp = 32, kRowWarps = 8, kColumnWarps = 16;
constexpr int kColumnTile = 128, kRowTile = kColumnWarps * kWarp;  // boxes of the other set in shared memory

template <class A>
__device__ __forceinline__ A field(IouBox<A> const& b, int i) {
  A const fields[kIouPlanes] = {b.x1, b.y1, b.x2, b.y2, b.area, b.cx, b.cy, b.angle};
  return fields[i];
}

template <class A>
__device__ __forceinline__ IouBox<A> box_from(A const* plane, int pitch) {
  return {plane[0],         plane[pitch],     plane[2 * pitch], plane[3 * pitch],
          plane[4 * pitch], plane[5 * pitch], plane[6 * pitch], plane[7 * pitch]};
}

template <class A>
__device__ __forceinline__ A warp_sum(A v) {
  for (int d = kWarp / 2; d > 0; d /= 2) v = v + __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

template <class A, class T>
__device__ __forceinline__ void finish(T* to, T const* boxes, int64_t i, bool aligned, BoxFormat format, BoxIou kind,
                                       IouBox<A> const& total) {
  iou_box_gradient(load_four(boxes + 4 * i, aligned).value, format, kind, total, to + 4 * i);
}

// A warp has `each` rows, one after the other: more than one where a single tile holds all columns.
template <BoxIou kind, class A, class T>
__global__ void __launch_bounds__(kRowWarps* kWarp, 2)
    box_iou_rows_kernel(A const* g, T const* boxes1, T const* boxes2, T* gradient1, int64_t n, int64_t m, int64_t down,
                        int each, BoxFormat format, A eps, bool aligned1, bool aligned2) {
  LEYOLO_SHARED(A, plane, kIouPlanes * kColumnTile);
  int64_t const image = int64_t(blockIdx.x) / down, block = int64_t(blockIdx.x) % down * (kRowWarps * each);
  int const lane = threadIdx.x % kWarp;
  for (int r = 0; r < each; ++r) {
    int64_t const i = block + r * kRowWarps + threadIdx.x / kWarp, at = image * n + i;
    IouBox<A> box{}, total{};
    if (i < n) box = iou_box<A>(load_four(boxes1 + 4 * at, aligned1).value, format, kind);
    for (int64_t first = 0; first < m; first += kColumnTile) {
      int const columns = int(min_of<int64_t>(kColumnTile, m - first));
      if (r == 0) {
        if (first > 0) __syncthreads();
        for (int j = threadIdx.x; j < columns; j += kRowWarps * kWarp) {
          IouBox<A> const b = iou_box<A>(load_four(boxes2 + 4 * (image * m + first + j), aligned2).value, format, kind);
#pragma unroll
          for (int p = 0; p < kIouPlanes; ++p) plane[p * kColumnTile + j] = field(b, p);
        }
        __syncthreads();
      }
      if (i < n)
        for (int j = lane; j < columns; j += kWarp) {
          IouBox<A> const other = box_from(plane + j, kColumnTile);
          IouPair<kind, false, A, A> pair;
          pair.score(box, other, eps);
          add_to(total, pair.gradient(box, other, eps, g[at * m + first + j]));
        }
    }
    total = {warp_sum(total.x1),   warp_sum(total.y1), warp_sum(total.x2), warp_sum(total.y2),
             warp_sum(total.area), warp_sum(total.cx), warp_sum(total.cy), warp_sum(total.angle)};
    if (i < n && lane == 0) finish(gradient1, boxes1, at, aligned1, format, kind, total);
  }
}

template <BoxIou kind, class A, class T>
__global__ void __launch_bounds__(kColumnWarps* kWarp, 1)
    box_iou_columns_kernel(A const* g, T const* boxes1, T const* boxes2, T* gradient2, int64_t n, int64_t m,
                           int64_t across, BoxFormat format, A eps, bool aligned1, bool aligned2) {
  LEYOLO_SHARED(A, memory, kColumnWarps * kIouPlanes * kWarp);  // rows, later the sums of the warps
  int64_t const image = int64_t(blockIdx.x) / across;
  int const lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int64_t const j = int64_t(blockIdx.x) % across * kWarp + lane, at = image * m + j;
  IouBox<A> box{}, total{};
  if (j < m) box = iou_box<A>(load_four(boxes2 + 4 * at, aligned2).value, format, kind);
  for (int64_t first = 0; first < n; first += kRowTile) {
    int const rows = int(min_of<int64_t>(kRowTile, n - first));
    for (int i = threadIdx.x; i < rows; i += kColumnWarps * kWarp) {
      IouBox<A> const b = iou_box<A>(load_four(boxes1 + 4 * (image * n + first + i), aligned1).value, format, kind);
#pragma unroll
      for (int p = 0; p < kIouPlanes; ++p) memory[p * kRowTile + i] = field(b, p);
    }
    __syncthreads();
    if (j < m)
      for (int i = warp; i < rows; i += kColumnWarps) {
        IouBox<A> const other = box_from(memory + i, kRowTile);
        IouPair<kind, false, A, A> pair;
        pair.score(box, other, eps);
        add_to(total, pair.gradient(box, other, eps, g[(image * n + first + i) * m + j]));
      }
    __syncthreads();
  }
#pragma unroll
  for (int p = 0; p < kIouPlanes; ++p) memory[(warp * kIouPlanes + p) * kWarp + lane] = field(total, p);
  __syncthreads();
  if (warp != 0 || j >= m) return;
  for (int w = 1; w < kColumnWarps; ++w) add_to(total, box_from(memory + w * kIouPlanes * kWarp + lane, kWarp));
  finish(gradient2, boxes2, at, aligned2, format, kind, total);
}

template <BoxIou kind, class A, class T>
void run(View gradient, View boxes1, View boxes2, View gradient1, View gradient2, IouParams const& params,
         Context const& context) {
  int64_t const batch = boxes1.shape[0], n = boxes1.shape[1], m = boxes2.shape[1];
  int const each = m <= kColumnTile ? 4 : 1;
  int64_t const rows = kRowWarps * each, down = (n + rows - 1) / rows, across = (m + kWarp - 1) / kWarp;
  bool const aligned1 = is_aligned(boxes1.as<T>()), aligned2 = is_aligned(boxes2.as<T>());
  if (gradient1 && gradient1.numel() > 0)
    LEYOLO_LAUNCH((box_iou_rows_kernel<kind, A, T>), unsigned(batch * down), kRowWarps * kWarp, 0, context.stream,
                  gradient.as<A>(), boxes1.as<T>(), boxes2.as<T>(), gradient1.as<T>(), n, m, down, each, params.format,
                  A(params.eps), aligned1, aligned2);
  if (gradient2 && gradient2.numel() > 0)
    LEYOLO_LAUNCH((box_iou_columns_kernel<kind, A, T>), unsigned(batch * across), kColumnWarps * kWarp, 0,
                  context.stream, gradient.as<A>(), boxes1.as<T>(), boxes2.as<T>(), gradient2.as<T>(), n, m, across,
                  params.format, A(params.eps), aligned1, aligned2);
}

}  // namespace

void box_iou_backward_cuda(View gradient, View boxes1, View boxes2, View gradient1, View gradient2,
                           IouParams const& params, Context const& context) {
  for_float_cuda(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    for_kind_cuda(params.kind, [&](auto kind) {
      run<decltype(kind)::value, iou_float<T>, T>(gradient, boxes1, boxes2, gradient1, gradient2, params, context);
    });
  });
}

}  // namespace leyolo

// Very many boxes: all blocks sort, then per round one block decides the next 1024 boxes and all blocks drop what those
// overlap. The number of launches depends on n alone; on the device each looks whether there is something to do.
#include "ops/nms/nms.cuh"

namespace leyolo {

namespace {

constexpr int kMany = 1024;

// Which image and which piece of it a block works on.
struct Piece {
  int64_t image, at;
  __device__ Piece(int64_t per_image) : image(int64_t(blockIdx.x) / per_image), at(int64_t(blockIdx.x) % per_image) {}
};

template <class A, class T>
__global__ void __launch_bounds__(kMany, 1) nms_collect_kernel(NmsInputs<A> in, char* workspace, int64_t bytes) {
  LEYOLO_SHARED(unsigned, counter, 1);
  int64_t const image = blockIdx.x;
  NmsMemory<A> const s(workspace + image * bytes, in.n);
  int64_t const count = nms_collect<A, T>(in, image, s.keys, counter);
  if (threadIdx.x == 0) s.state[0] = count, s.state[1] = 0, in.kept[image] = 0;
}

template <class A>
__global__ void __launch_bounds__(kMany, 1)
    nms_tiles_kernel(NmsInputs<A> in, char* workspace, int64_t bytes, int64_t tiles, bool merging) {
  LEYOLO_SHARED(NmsKey<A>, shared, nms_tile<A>);
  Piece const piece(tiles);
  NmsMemory<A> const s(workspace + piece.image * bytes, in.n);
  int64_t const at = piece.at * nms_tile<A>, count = min_of<int64_t>(nms_tile<A>, s.state[0] - at);
  if (count <= 0) return;
  nms_sort_tile<A>(s.keys + at, int(count), shared, merging);
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) s.dropped[at + i] = 0;
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    nms_step_kernel(NmsInputs<A> in, char* workspace, int64_t bytes, int64_t pieces, int64_t size, bool mirror) {
  Piece const piece(pieces);
  NmsMemory<A> const s(workspace + piece.image * bytes, in.n);
  int64_t const count = s.state[0], t = piece.at * kThreads + threadIdx.x;
  if (t < nms_pairs(count, size)) nms_exchange(s.keys, count, t, size, mirror);
}

template <class A, class T>
__global__ void __launch_bounds__(kMany, 1)
    nms_decide_kernel(NmsInputs<A> in, char* workspace, int64_t bytes, int64_t first) {
  int64_t const image = blockIdx.x;
  NmsMemory<A> const s(workspace + image * bytes, in.n);
  int64_t const found = in.kept[image], end = min_of(s.state[0], first + kNmsRound);
  __syncthreads();
  int64_t const now = nms_sweep<A, T>(in, image, s, s.keys, first, end, found, found, true);
  if (threadIdx.x == 0) s.state[1] = found, in.kept[image] = now;
}

template <class A, class T>
__global__ void __launch_bounds__(kThreads)
    nms_drop_kernel(NmsInputs<A> in, char* workspace, int64_t bytes, int64_t pieces, int64_t first) {
  Piece const piece(pieces);
  NmsMemory<A> const s(workspace + piece.image * bytes, in.n);
  int64_t const i = first + piece.at * kThreads + threadIdx.x, found = in.kept[piece.image];
  if (i >= s.state[0] || found >= in.max_det || s.dropped[i]) return;
  NmsCandidate<A> const mine = nms_candidate<A, T>(in, piece.image, s.keys[i].index());
  for (int64_t k = s.state[1]; k < found; ++k)
    if (nms_drops(s, k, mine, in.labels != nullptr, in.iou_threshold)) {
      s.dropped[i] = 1;
      return;
    }
}

template <class A>
__global__ void __launch_bounds__(kMany, 1) nms_fill_kernel(NmsInputs<A> in) {
  nms_fill_rest(in, blockIdx.x, in.kept[blockIdx.x]);
}

}  // namespace

void nms_by_rounds(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
                   Nms const& params, Context const& context) {
  int64_t const batch = boxes.shape[0], n = boxes.shape[1], bytes = nms_workspace(boxes, labels) / batch;
  char* const memory = workspace.as<char>();
  for_float_cuda(boxes.dtype, "nms", [&](auto zero) {
    using T = decltype(zero);
    using A = nms_float<T>;
    auto const in = nms_inputs<A>(boxes, scores, labels, counts, indices, kept, params);
    constexpr int64_t tile = nms_tile<A>;
    int64_t const tiles = (n + tile - 1) / tile, pieces = (n + kThreads - 1) / kThreads;
    auto const sort_tiles = [&](bool merging) {
      LEYOLO_LAUNCH((nms_tiles_kernel<A>), unsigned(batch * tiles), kMany, 0, context.stream, in, memory, bytes, tiles,
                    merging);
    };
    auto const step = [&](int64_t size, bool mirror) {
      LEYOLO_LAUNCH((nms_step_kernel<A>), unsigned(batch * pieces), kThreads, 0, context.stream, in, memory, bytes,
                    pieces, size, mirror);
    };
    LEYOLO_LAUNCH((nms_collect_kernel<A, T>), unsigned(batch), kMany, 0, context.stream, in, memory, bytes);
    sort_tiles(false);
    for (int64_t sorted = tile; sorted < n; sorted *= 2) {
      step(2 * sorted, true);
      for (int64_t size = sorted; size > tile; size /= 2) step(size, false);
      sort_tiles(true);
    }
    for (int64_t first = 0; first < n; first += kNmsRound) {
      LEYOLO_LAUNCH((nms_decide_kernel<A, T>), unsigned(batch), kMany, 0, context.stream, in, memory, bytes, first);
      int64_t const next = first + kNmsRound, rest = (n - next + kThreads - 1) / kThreads;
      if (rest > 0)
        LEYOLO_LAUNCH((nms_drop_kernel<A, T>), unsigned(batch * rest), kThreads, 0, context.stream, in, memory, bytes,
                      rest, next);
    }
    LEYOLO_LAUNCH((nms_fill_kernel<A>), unsigned(batch), kMany, 0, context.stream, in);
  });
}

}  // namespace leyolo

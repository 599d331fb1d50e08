// One block per image, one launch: collect, sort, sweep. How much there is to do is read on the device.
#include "ops/nms/nms.cuh"

namespace leyolo {

namespace {

constexpr int kMostThreads = 1024;
constexpr int64_t kManyPairs = int64_t(1) << 24;  // IoUs that one block may have to compute

// More keys than fit into shared memory: tiles, then merges whose wide steps run in global memory.
template <class A>
__device__ __forceinline__ void sort_tiles(NmsKey<A>* keys, int64_t count, NmsKey<A>* shared) {
  constexpr int64_t tile = nms_tile<A>;
  auto const all_tiles = [&](bool merging) {
    for (int64_t at = 0; at < count; at += tile)
      nms_sort_tile<A>(keys + at, int(min_of(tile, count - at)), shared, merging);
  };
  auto const step = [&](int64_t size, bool mirror) {
    int64_t const pairs = nms_pairs(count, size);
    for (int64_t t = threadIdx.x; t < pairs; t += blockDim.x) nms_exchange(keys, count, t, size, mirror);
    __syncthreads();
  };
  all_tiles(false);
  for (int64_t sorted = tile; sorted < count; sorted *= 2) {
    step(2 * sorted, true);
    for (int64_t size = sorted; size > tile; size /= 2) step(size, false);
    all_tiles(true);
  }
}

template <class A, class T>
__global__ void __launch_bounds__(kMostThreads, 1) nms_kernel(NmsInputs<A> in, char* workspace, int64_t bytes) {
  LEYOLO_SHARED(NmsKey<A>, shared, nms_tile<A>);
  LEYOLO_SHARED(unsigned, counter, 1);
  int64_t const image = blockIdx.x;
  NmsMemory<A> const s(workspace + image * bytes, in.n);
  int64_t found = 0;
  if (in.max_det > 0) {
    NmsKey<A>* keys = in.n <= nms_tile<A> ? shared : s.keys;
    int64_t const count = nms_collect<A, T>(in, image, keys, counter);
    if (count > nms_tile<A>) {
      sort_tiles(keys, count, shared);
    } else {
      if (keys != shared)
        for (int64_t i = threadIdx.x; i < count; i += blockDim.x) shared[i] = keys[i];
      keys = shared;
      nms_sort_shared(shared, int(count), false, 0);
    }
    found = nms_sweep<A, T>(in, image, s, keys, 0, count, 0, 0, false);
  }
  nms_fill_rest(in, image, found);
  if (threadIdx.x == 0) in.kept[image] = found;
}

}  // namespace

void nms_cuda(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
              Nms const& params, Context const& context) {
  int64_t const n = boxes.shape[1], most = std::min(n, indices.shape[1]);
  check(n < int64_t(1) << 31, "nms: at most 2^31 - 1 boxes an image on CUDA, got ", boxes);
  if (n > kNmsTile && n * most > kManyPairs)
    return nms_by_rounds(boxes, scores, labels, counts, indices, kept, workspace, params, context);
  int const threads = n <= 128 ? 128 : n <= 1024 ? 512 : kMostThreads;
  for_float_cuda(boxes.dtype, "nms", [&](auto zero) {
    using T = decltype(zero);
    using A = nms_float<T>;
    LEYOLO_LAUNCH((nms_kernel<A, T>), unsigned(boxes.shape[0]), threads, 0, context.stream,
                  nms_inputs<A>(boxes, scores, labels, counts, indices, kept, params), workspace.as<char>(),
                  nms_workspace(boxes, labels) / boxes.shape[0]);
  });
}

}  // namespace leyolo

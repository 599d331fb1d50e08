// One kernel for expand, depthwise and project. A block of threads makes a tile of the output. Its part of x, with the
// border that the window needs, stays in shared memory; then the expanded channels go by in slices of 32: expand on
// tensor cores, activation, zeros outside the image (the border is zero after the activation) -> shared memory;
// depthwise on the FMA units -> shared memory; project on tensor cores, whose sums stay in registers over all slices.
// The weights of the next slice arrive by asynchronous copies meanwhile. Without expansion the slices are read from x.
#include "ops/inverted_bottleneck/inverted_bottleneck.cuh"

namespace leyolo {

namespace {

template <class T, int GROUPS>
void run_groups(BottleneckImages const& a, BottleneckTile const& tile, Context const& context) {
  NoImage const* const none = nullptr;
  a.expand ? launch_bottleneck<T, GROUPS, true>(a, tile, none, {}, context)
           : launch_bottleneck<T, GROUPS, false>(a, tile, none, {}, context);
}

template <class T>
void run(BottleneckImages const& a, BottleneckTile const& tile, Context const& context) {
  switch ((a.out_channels + 31) / 32) {
    case 1: return run_groups<T, 1>(a, tile, context);
    case 2: return run_groups<T, 2>(a, tile, context);
    case 3: return run_groups<T, 3>(a, tile, context);
    default: return run_groups<T, 4>(a, tile, context);
  }
}

}  // namespace

BottleneckTile bottleneck_tile_here(BottleneckShape const& shape) {
#ifdef LEYOLO_CUDA_SHIM
  return bottleneck_tile(shape, 99 << 10, 4);
#else
  int device = 0, shared = 0, multiprocessors = 0;
  check_cuda("inverted_bottleneck", cudaGetDevice(&device));
  check_cuda("inverted_bottleneck", cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check_cuda("inverted_bottleneck", cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  return bottleneck_tile(shape, shared, multiprocessors);
#endif
}

void bottleneck_images_cuda(BottleneckImages const& a, DType type, Context const& context) {
  BottleneckTile const tile = bottleneck_tile_here(a.shape());
  auto const vectors = [](void const* p, int pitch, int64_t image) {
    return pitch % 8 == 0 && image % 8 == 0 && is_aligned(p, 16);
  };
  bool const stem = a.stem.packed;
  check(tile.warps > 0 && (type == DType::f16 || type == DType::bf16) &&
            (stem ? bottleneck_stem_fits(a.shape(), a.stem.kernel, a.stem.channels)
                  : vectors(a.x, a.x_pitch, a.x_image)) &&
            vectors(a.y, a.y_pitch, a.y_image) && vectors(a.residual, a.residual_pitch, a.residual_image) &&
            vectors(a.low, a.low_pitch, a.low_image) && a.low_channels % 8 == 0,
        "inverted_bottleneck: no kernel for ", type, ", ", a.in_channels, " -> ", a.middle_channels, " -> ",
        a.out_channels, " channels, kernel ", a.kernel, ", stride ", a.stride, ", pitches ", a.x_pitch, ", ",
        a.y_pitch);
  if (stem) return bottleneck_stem_cuda(a, tile, type, context);
  if (type == DType::f16) return run<__half>(a, tile, context);
  run<__nv_bfloat16>(a, tile, context);
}

}  // namespace leyolo

// The fused block with the network's first convolution in front: x is made out of the image, tile by tile, and is in no
// memory either.
#include "ops/inverted_bottleneck/inverted_bottleneck.cuh"

namespace leyolo {

namespace {

template <class T, class X>
void run(BottleneckImages const& a, BottleneckTile const& tile, Context const& context) {
  BottleneckStemLayer const& s = a.stem;
  int const depth = s.kernel * s.kernel * s.channels;
  BottleneckStem<T> const stem{packed_values<T>(s.packed, conv2d_cuda_bias(a.in_channels)),
                               static_cast<float const*>(s.packed),
                               a.x_image,
                               s.height,
                               s.width,
                               s.channels,
                               s.kernel,
                               s.stride,
                               s.padding,
                               depth,
                               int(conv2d_cuda_row(depth))};
  launch_bottleneck<T, 1, true>(a, tile, static_cast<X const*>(a.x), stem, context);
}

template <class T>
void run_image(BottleneckImages const& a, BottleneckTile const& tile, Context const& context) {
  switch (a.stem.type) {
    case DType::u8: return run<T, uint8_t>(a, tile, context);
    case DType::f32: return run<T, float>(a, tile, context);
    default: return run<T, T>(a, tile, context);
  }
}

}  // namespace

void bottleneck_stem_cuda(BottleneckImages const& a, BottleneckTile const& tile, DType type, Context const& context) {
  if (type == DType::f16) return run_image<__half>(a, tile, context);
  run_image<__nv_bfloat16>(a, tile, context);
}

}  // namespace leyolo

// For the *.simd.cpp of this folder: where a tap of the packed weights lies, and whole or part vectors of channels.
#pragma once

#include "core/simd.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_args.h"

namespace leyolo::LEYOLO_ISA {

template <class T>
LEYOLO_INLINE T* tap(DepthwiseArgs const& a, T* packed, int channel, int ky, int kx) {
  return packed + static_cast<long long>(channel) * a.kernel_h * a.kernel_w + (ky * a.kernel_w + kx) * kLanes;
}

template <bool TAIL>
LEYOLO_INLINE vf load_channels(float const* p, int count) {
  if constexpr (TAIL)
    return load_part(p, count);
  else
    return load(p);
}

template <bool TAIL>
LEYOLO_INLINE void store_channels(float* p, vf v, int count) {
  if constexpr (TAIL)
    store_part(p, v, count);
  else
    store(p, v);
}

}  // namespace leyolo::LEYOLO_ISA

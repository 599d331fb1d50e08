// Where a tap of the packed weights lies, for the *.simd.cpp of this folder.
#pragma once

#include "core/simd.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_args.h"

namespace leyolo::LEYOLO_ISA {

template <class T>
LEYOLO_INLINE T* tap(DepthwiseArgs const& a, T* packed, int channel, int ky, int kx) {
  return packed + static_cast<long long>(channel) * a.kernel_h * a.kernel_w + (ky * a.kernel_w + kx) * kLanes;
}

}  // namespace leyolo::LEYOLO_ISA

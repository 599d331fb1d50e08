// Shared with pointwise_gradient.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// weight_gradient[o, c] += sum over pixels p of gradient[p, o] x[p, c], all dense.
struct PointwiseGradientArgs {
  float const* gradient;   // [pixels, out_channels]
  float const* x;          // [pixels, in_channels]
  float* weight_gradient;  // [out_channels, in_channels]
  long long pixels, out_channels, in_channels;
};

}  // namespace leyolo

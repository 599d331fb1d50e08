// Shared with batch_norm_act.simd.cpp, hence no standard header.
#pragma once

#include "core/activation.h"

namespace leyolo {

// A stretch of a map. Channels last it begins with channel 0, and what belongs to channels is repeated up to `period`
// values, a multiple of the channels and of kNormVectors vectors: kernels walk over plain memory and meet no tails
// but the last one. Of a `plane` of one channel only the first value of what belongs to channels is read, and sums have
// a period of kNormVectors vectors.
struct NormArgs {
  float const* x;
  float const* gradient;  // of y
  float* out;             // y, or the gradient of x
  float* slopes;          // of the activation at z, where they are kept
  long long count, period;
  float const *mean, *scale, *shift;  // z = (x - mean) * scale + shift
  float const *offset, *slope;        // x gradient = scale * dz - offset - (x - mean) * slope
  float *sum, *product, *rest;        // [period], added to
  float* product_rest;                // of the product; `rest` is then the sum's
  Activation activation;
  bool plane;
};

constexpr int kNormVectors = 4;

}  // namespace leyolo

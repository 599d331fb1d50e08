// A 1x1 convolution whose output is about to be normalised, and whose input may be a map that still has to be: chunk by
// chunk of pixels, so that what is made in between stays in the cache.
#pragma once

#include "core/context.h"
#include "ops/inverted_bottleneck_norm/norm_layer.h"

namespace leyolo {

struct PointwiseNorm {
  int64_t pixels, in, out;

  int64_t chunk() const;                           // pixels that are worked on at a time
  int64_t pieces() const;                          // each with sums of its own
  int64_t forward_scratch(bool normalises) const;  // float32 values for each slot of each_norm_piece
  int64_t backward_scratch() const;

  // z = conv(activation(norm(x))), and its statistics in sums[pieces]; without `before` the convolution reads x itself.
  // `packed`: conv2d_pack.
  void forward(float const* x, NormTables const* before, float const* packed, float* z, NormSums const& sums,
               float* scratch, Context const& context) const;

  // From the gradient `dz` of norm(z) to that of what the convolution reads; with `before` to that of norm(x), and its
  // sums (unused else). `packed`: of the transposed weights. `residual`: added to x_gradient, or null. weight_sums
  // [pieces, out, in].
  void backward(float const* dz, float const* z, NormTables const& after, float const* x, NormTables const* before,
                float const* packed, float const* residual, float* x_gradient, float* weight_sums, NormSums const& sums,
                float* scratch, Context const& context) const;
};

}  // namespace leyolo

// A depthwise convolution between two norms, band by band of rows: see pointwise_norm.h.
#pragma once

#include "core/context.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_args.h"
#include "ops/inverted_bottleneck_norm/norm_layer.h"

namespace leyolo {

struct DepthwiseNorm {
  int64_t images;
  DepthwiseArgs shape;  // of one image; its pointers are not read

  int64_t bands() const;  // of an image
  int64_t pieces() const { return images * bands(); }
  int64_t packed_size() const;
  int64_t forward_scratch(bool normalises) const;  // float32 values for each slot of each_norm_piece
  int64_t backward_scratch(bool normalises) const;

  void forward(float const* x, NormTables const* before, float const* packed, float* z, NormSums const& sums,
               float* scratch, Context const& context) const;

  // `mirrored`: depthwise_mirror, or null where that does not apply. weight_sums [pieces, packed_size].
  void backward(float const* dz, float const* z, NormTables const& after, float const* x, NormTables const* before,
                float const* packed, float const* mirrored, float const* residual, float* x_gradient,
                float* weight_sums, NormSums const& sums, float* scratch, Context const& context) const;

 private:
  struct Rows {
    int64_t begin, end;
  };
  int64_t x_row() const { return shape.width * shape.channels; }
  int64_t z_row() const { return shape.out_width * shape.channels; }
  int64_t rows() const;         // output rows that are worked on at a time
  Rows read(Rows out) const;    // input rows that these output rows read
  Rows made(Rows out) const;    // input rows whose gradients are made together with these
  Rows readers(Rows in) const;  // output rows that read these input rows
  static Rows joined(Rows a, Rows b);
  int64_t input_values() const;  // of the input rows of a band
  template <class F>
  void each_band(int64_t piece, F&& f) const;
};

}  // namespace leyolo

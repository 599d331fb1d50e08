#include "ops/inverted_bottleneck_norm/pointwise_norm.h"

#include <algorithm>

#include "core/isa.h"
#include "ops/conv2d/conv2d.h"
#include "ops/inverted_bottleneck_norm/norm_pieces.h"
#include "ops/inverted_bottleneck_norm/pointwise_gradient_args.h"

namespace leyolo {

LEYOLO_SIMD(void pointwise_weight_gradient(PointwiseGradientArgs const&))

namespace {

// y = conv(x) [+ residual]
void convolve(float const* x, float const* packed, float const* residual, float* y, int64_t pixels, int64_t in,
              int64_t out) {
  Conv2dArgs const a{x,        packed,   conv2d_packed_bias(packed, out, in, 1),
                     residual, y,        1,
                     pixels,   1,        pixels,
                     in,       out,      out,
                     int(in),  int(out), 1,
                     1,        0,        Activation::none};
  conv2d_band(a, 0, 1);
}

}  // namespace

// The maps of a chunk stay in the L2 cache, and its pixels are enough for the weights to be worth loading.
int64_t PointwiseNorm::chunk() const {
  constexpr int64_t kValues = 24576, kStep = 48;  // a multiple of all register tiles
  return std::clamp<int64_t>(kValues / std::max(in, out) / kStep, 1, 8) * kStep;
}

int64_t PointwiseNorm::pieces() const { return std::clamp<int64_t>(pixels / (2 * chunk()), 1, kNormPieces); }

int64_t PointwiseNorm::forward_scratch(bool normalises) const {
  return NormPass::size(out) + (normalises ? chunk() * in : 0);
}
int64_t PointwiseNorm::backward_scratch() const { return NormPass::size(in) + chunk() * (2 * in + out); }

void PointwiseNorm::forward(float const* x, NormTables const* before, float const* packed, float* z,
                            NormSums const& sums, float* scratch, Context const& context) const {
  int64_t const n = pieces(), step = chunk(), each = forward_scratch(before != nullptr);
  each_norm_piece(context, n, [&](int64_t piece, int64_t slot) {
    NormPass const pass{scratch + slot * each};
    float* const input = pass.memory + NormPass::size(out);
    NormSums const own = sums.piece(piece);
    own.clear();
    int64_t const end = (piece + 1) * pixels / n;
    for (int64_t p = piece * pixels / n; p < end; p += step) {
      int64_t const count = std::min(step, end - p);
      float const* from = x + p * in;
      if (before) before->apply(from, count, input), from = input;
      convolve(from, packed, nullptr, z + p * out, count, in, out);
      pass.statistics(z + p * out, count, own);
    }
  });
}

void PointwiseNorm::backward(float const* dz, float const* z, NormTables const& after, float const* x,
                             NormTables const* before, float const* packed, float const* residual, float* x_gradient,
                             float* weight_sums, NormSums const& sums, float* scratch, Context const& context) const {
  int64_t const n = pieces(), step = chunk(), each = backward_scratch();
  auto* const weights = LEYOLO_PICK(pointwise_weight_gradient);
  each_norm_piece(context, n, [&](int64_t piece, int64_t slot) {
    NormPass const pass{scratch + slot * each};
    float *const input = pass.memory + NormPass::size(in), *const slopes = input + step * in,
                 *const gradient = slopes + step * in;
    NormSums const own = sums.piece(piece);
    if (before) own.clear();
    float* const weight_sum = weight_sums + piece * out * in;
    std::fill_n(weight_sum, out * in, 0.0f);
    int64_t const end = (piece + 1) * pixels / n;
    for (int64_t p = piece * pixels / n; p < end; p += step) {
      int64_t const count = std::min(step, end - p);
      float const* from = x + p * in;
      after.gradient(dz + p * out, z + p * out, count, gradient);
      if (before) before->apply(from, count, input, slopes), from = input;
      weights({gradient, from, weight_sum, count, out, in});
      float* const to = x_gradient + p * in;
      convolve(gradient, packed, residual ? residual + p * in : nullptr, to, count, out, in);
      if (before) pass.gradients(*before, to, slopes, x + p * in, count, own);
    }
  });
}

}  // namespace leyolo

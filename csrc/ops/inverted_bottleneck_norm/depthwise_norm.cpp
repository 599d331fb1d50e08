#include "ops/inverted_bottleneck_norm/depthwise_norm.h"

#include <algorithm>

#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/inverted_bottleneck_norm/norm_pieces.h"

namespace leyolo {

namespace {

int64_t rounded_up(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : 0; }

}  // namespace

// Rows at the edges of a band are normalised twice.
int64_t DepthwiseNorm::bands() const {
  return std::clamp<int64_t>(kNormPieces / std::max<int64_t>(1, images), 1, std::max<int64_t>(1, shape.out_height / 8));
}

int64_t DepthwiseNorm::rows() const {
  constexpr int64_t kValues = 1 << 18;  // 1 MB, between the L2 and the L3 cache: smaller bands have more edges
  int64_t const band = rounded_up(shape.out_height, bands());
  return std::clamp<int64_t>(kValues / (shape.stride_h * x_row() + z_row()), 1, band);
}

int64_t DepthwiseNorm::packed_size() const {
  return depthwise_packed_size(shape.channels, shape.kernel_h, shape.kernel_w);
}

DepthwiseNorm::Rows DepthwiseNorm::read(Rows out) const {
  int64_t const top = out.begin * shape.stride_h - shape.padding_h;
  return {std::clamp<int64_t>(top, 0, shape.height),
          std::clamp<int64_t>((out.end - 1) * shape.stride_h - shape.padding_h + shape.kernel_h, 0, shape.height)};
}

DepthwiseNorm::Rows DepthwiseNorm::made(Rows out) const {
  return {std::min<int64_t>(out.begin * shape.stride_h, shape.height),
          out.end == shape.out_height ? shape.height : std::min<int64_t>(out.end * shape.stride_h, shape.height)};
}

DepthwiseNorm::Rows DepthwiseNorm::readers(Rows in) const {
  return {
      std::min<int64_t>(rounded_up(in.begin + shape.padding_h - shape.kernel_h + 1, shape.stride_h), shape.out_height),
      std::min<int64_t>((in.end - 1 + shape.padding_h) / shape.stride_h + 1, shape.out_height)};
}

DepthwiseNorm::Rows DepthwiseNorm::joined(Rows a, Rows b) {
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

// f(image, output rows) for the bands of a piece.
template <class F>
void DepthwiseNorm::each_band(int64_t piece, F&& f) const {
  int64_t const n = bands(), image = piece / n, band = piece % n, end = (band + 1) * shape.out_height / n;
  for (int64_t row = band * shape.out_height / n; row < end; row += rows())
    f(image, Rows{row, std::min(row + rows(), end)});
}

int64_t DepthwiseNorm::input_values() const {
  return std::min<int64_t>((rows() + 1) * shape.stride_h + shape.kernel_h, shape.height) * x_row();
}

int64_t DepthwiseNorm::forward_scratch(bool normalises) const {
  return NormPass::size(shape.channels) + (normalises ? input_values() : 0);
}

int64_t DepthwiseNorm::backward_scratch(bool normalises) const {
  int64_t const most = rows() + 2 * rounded_up(shape.kernel_h, shape.stride_h) + shape.kernel_h;
  return forward_scratch(normalises) + (normalises ? input_values() : 0) +
         std::min<int64_t>(most, shape.out_height) * z_row();
}

void DepthwiseNorm::forward(float const* x, NormTables const* before, float const* packed, float* z,
                            NormSums const& sums, float* scratch, Context const& context) const {
  int64_t const each = forward_scratch(before != nullptr);
  each_norm_piece(context, pieces(), [&](int64_t piece, int64_t slot) {
    NormPass const pass{scratch + slot * each};
    float* const input = pass.memory + NormPass::size(shape.channels);
    NormSums const own = sums.piece(piece);
    own.clear();
    each_band(piece, [&](int64_t image, Rows out) {
      Rows const in = read(out);
      DepthwiseArgs a = shape;
      a.weight = packed, a.bias = packed + int64_t(a.padded) * a.kernel_h * a.kernel_w;
      a.x = x + image * a.height * x_row();
      a.y = z + image * a.out_height * z_row();
      if (before) {
        before->apply(a.x + in.begin * x_row(), (in.end - in.begin) * a.width, input);
        a.x = input - in.begin * x_row();
      }
      depthwise_band(a, out.begin, out.end);
      pass.statistics(a.y + out.begin * z_row(), (out.end - out.begin) * a.out_width, own);
    });
  });
}

void DepthwiseNorm::backward(float const* dz, float const* z, NormTables const& after, float const* x,
                             NormTables const* before, float const* packed, float const* mirrored,
                             float const* residual, float* x_gradient, float* weight_sums, NormSums const& sums,
                             float* scratch, Context const& context) const {
  int64_t const each = backward_scratch(before != nullptr), size = packed_size();
  each_norm_piece(context, pieces(), [&](int64_t piece, int64_t slot) {
    NormPass const pass{scratch + slot * each};
    float* const input = pass.memory + NormPass::size(shape.channels);
    float *const slopes = input + (before ? input_values() : 0), *const gradient =
                                                                     slopes + (before ? input_values() : 0);
    NormSums const own = sums.piece(piece);
    if (before) own.clear();
    std::fill_n(weight_sums + piece * size, size, 0.0f);
    each_band(piece, [&](int64_t image, Rows out) {
      Rows const to = made(out), in = joined(read(out), to), from = joined(out, readers(to));
      DepthwiseArgs const& s = shape;
      int64_t const z_from = (image * s.out_height + from.begin) * z_row(), x_image = image * s.height * x_row();
      after.gradient(dz + z_from, z + z_from, (from.end - from.begin) * s.out_width, gradient);
      DepthwiseBackwardArgs b{shape, gradient - from.begin * z_row(), x_gradient + x_image, weight_sums + piece * size,
                              nullptr};
      b.bias_gradient = b.weight_gradient + int64_t(s.padded) * s.kernel_h * s.kernel_w;
      b.forward.weight = packed;
      b.forward.x = x + x_image;
      if (before) {
        before->apply(b.forward.x + in.begin * x_row(), (in.end - in.begin) * s.width, input, slopes);
        b.forward.x = input - in.begin * x_row();
      }
      depthwise_weight_gradient_band(b, out.begin, out.end);
      depthwise_x_gradient_band(b, mirrored, to.begin, to.end);
      int64_t const begin = x_image + to.begin * x_row(), pixels = (to.end - to.begin) * s.width;
      if (before)
        pass.gradients(*before, x_gradient + begin, slopes + (to.begin - in.begin) * x_row(), x + begin, pixels, own);
      for (int64_t i = begin; residual && i < begin + pixels * s.channels; ++i) x_gradient[i] += residual[i];
    });
  });
}

}  // namespace leyolo

#include "ops/inverted_bottleneck_norm/inverted_bottleneck_norm.h"

#include "bindings/torch/common.h"
#include "core/activation_math.h"
#include "core/conv_size.h"

namespace leyolo {

namespace {

BottleneckLayers layers(OptionalTensor const& expand, Tensor const& depthwise, Tensor const& project) {
  return {view(expand, "inverted_bottleneck_norm: expand_weight"),
          view(depthwise, "inverted_bottleneck_norm: depthwise_weight"),
          view(project, "inverted_bottleneck_norm: project_weight")};
}

BottleneckNorms norms(OptionalTensor const (&weights)[kBottleneckLayers],
                      OptionalTensor const (&biases)[kBottleneckLayers]) {
  BottleneckNorms n;
  for (int l = 0; l < kBottleneckLayers; ++l) {
    n.weight[l] = view(weights[l], "inverted_bottleneck_norm: weight of a norm");
    n.bias[l] = view(biases[l], "inverted_bottleneck_norm: bias of a norm");
  }
  return n;
}

}  // namespace

// y, the z of the three convolutions (that of the expansion empty where there is none), and the statistics.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> torch_inverted_bottleneck_norm(
    Tensor const& x, OptionalTensor const& expand_weight, OptionalTensor const& expand_bias,
    Tensor const& depthwise_weight, OptionalTensor const& depthwise_bias, Tensor const& project_weight,
    OptionalTensor const& project_bias, OptionalTensor const& weight1, OptionalTensor const& bias1,
    OptionalTensor const& weight2, OptionalTensor const& bias2, OptionalTensor const& weight3,
    OptionalTensor const& bias3, int64_t stride, std::string activation, bool residual, double eps) {
  View const xv = view_nhwc(x, "inverted_bottleneck_norm: x");
  BottleneckLayers const w = layers(expand_weight, depthwise_weight, project_weight);
  BottleneckLayers const b{view(expand_bias, "inverted_bottleneck_norm: expand_bias"),
                           view(depthwise_bias, "inverted_bottleneck_norm: depthwise_bias"),
                           view(project_bias, "inverted_bottleneck_norm: project_bias")};
  BottleneckNorms const n = norms({weight1, weight2, weight3}, {bias1, bias2, bias3});
  check(w.depthwise.rank == 4 && w.project.rank == 4,
        "inverted_bottleneck_norm: depthwise_weight must be [M, 1, k, k], project_weight [O, M, 1, 1], got ",
        w.depthwise, ", ", w.project);
  InvertedBottleneckNorm const params{stride, activation_from(activation, "inverted_bottleneck_norm"), residual, eps};
  int64_t const k = w.depthwise.shape[2], m = w.depthwise.shape[0], o = w.project.shape[0];
  check_window("inverted_bottleneck_norm", k, stride, k / 2);
  int64_t const images = xv.shape[0], oh = conv_output_size(xv.shape[1], k, stride, k / 2),
                ow = conv_output_size(xv.shape[2], k, stride, k / 2);
  Tensor const y = empty_nhwc(x, images, o, oh, ow), z2 = empty_nhwc(x, images, m, oh, ow),
               z3 = empty_nhwc(x, images, o, oh, ow),
               z1 = expand_weight ? empty_nhwc(x, images, m, xv.shape[1], xv.shape[2]) : empty(x, {0}, x.scalar_type());
  Tensor const statistics = empty(x, {2, (expand_weight ? 2 : 1) * m + o}, accumulator_of(x));
  BottleneckLayers const z{expand_weight ? view_nhwc(z1, "inverted_bottleneck_norm: z1") : View(),
                           view_nhwc(z2, "inverted_bottleneck_norm: z2"),
                           view_nhwc(z3, "inverted_bottleneck_norm: z3")};
  View const yv = view_nhwc(y, "inverted_bottleneck_norm: y");
  OnDevice const context(x);
  Tensor const workspace =
      empty(x, {inverted_bottleneck_norm_workspace(xv, w, yv, params, context, false)}, ScalarType::Byte);
  inverted_bottleneck_norm(xv, w, b, n, yv, z, view(statistics, "inverted_bottleneck_norm: statistics"),
                           view(workspace, "inverted_bottleneck_norm: workspace"), params, context);
  return {y, z1, z2, z3, statistics};
}

// Of x, of the three weights (that of the expansion empty where there is none), and of the norms as the statistics lie.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> torch_inverted_bottleneck_norm_backward(
    Tensor const& gradient, Tensor const& x, OptionalTensor const& expand_weight, Tensor const& depthwise_weight,
    Tensor const& project_weight, OptionalTensor const& weight1, OptionalTensor const& bias1,
    OptionalTensor const& weight2, OptionalTensor const& bias2, OptionalTensor const& weight3,
    OptionalTensor const& bias3, Tensor const& z1, Tensor const& z2, Tensor const& z3, Tensor const& statistics,
    int64_t stride, std::string activation, bool residual, double eps) {
  View const xv = view_nhwc(x, "inverted_bottleneck_norm: x"),
             g = view_nhwc(gradient, "inverted_bottleneck_norm: gradient");
  BottleneckLayers const w = layers(expand_weight, depthwise_weight, project_weight);
  BottleneckNorms const n = norms({weight1, weight2, weight3}, {bias1, bias2, bias3});
  InvertedBottleneckNorm const params{stride, activation_from(activation, "inverted_bottleneck_norm"), residual, eps};
  BottleneckLayers const z{expand_weight ? view_nhwc(z1, "inverted_bottleneck_norm: z1") : View(),
                           view_nhwc(z2, "inverted_bottleneck_norm: z2"),
                           view_nhwc(z3, "inverted_bottleneck_norm: z3")};
  Tensor const gx = empty_nhwc(x, x.size(0), x.size(1), x.size(2), x.size(3));
  auto const like = [&](View v) {
    return v ? empty(x, {v.shape, v.shape + v.rank}, x.scalar_type()) : empty(x, {0}, x.scalar_type());
  };
  Tensor const ge = like(w.expand), gd = like(w.depthwise), gp = like(w.project),
               gn = empty(x, {2, statistics.size(1)}, accumulator_of(x));
  OnDevice const context(x);
  Tensor const workspace =
      empty(x, {inverted_bottleneck_norm_workspace(xv, w, g, params, context, true)}, ScalarType::Byte);
  inverted_bottleneck_norm_backward(
      g, xv, w, n, z, view(statistics, "inverted_bottleneck_norm: statistics"),
      view_nhwc(gx, "inverted_bottleneck_norm: x gradient"),
      {expand_weight ? view(ge, "inverted_bottleneck_norm: gradient") : View(),
       view(gd, "inverted_bottleneck_norm: gradient"), view(gp, "inverted_bottleneck_norm: gradient")},
      view(gn, "inverted_bottleneck_norm: gradient"), view(workspace, "inverted_bottleneck_norm: workspace"), params,
      context);
  return {gx, ge, gd, gp, gn};
}

LEYOLO_TORCH_OP(inverted_bottleneck_norm,
                "(Tensor x, Tensor? expand_weight, Tensor? expand_bias, Tensor depthwise_weight, "
                "Tensor? depthwise_bias, Tensor project_weight, Tensor? project_bias, Tensor? weight1, Tensor? bias1, "
                "Tensor? weight2, Tensor? bias2, Tensor? weight3, Tensor? bias3, int stride, str activation, "
                "bool residual, float eps) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
LEYOLO_TORCH_OP(inverted_bottleneck_norm_backward,
                "(Tensor gradient, Tensor x, Tensor? expand_weight, Tensor depthwise_weight, Tensor project_weight, "
                "Tensor? weight1, Tensor? bias1, Tensor? weight2, Tensor? bias2, Tensor? weight3, Tensor? bias3, "
                "Tensor z1, Tensor z2, Tensor z3, Tensor statistics, int stride, str activation, bool residual, "
                "float eps) -> (Tensor, Tensor, Tensor, Tensor, Tensor)")

}  // namespace leyolo

#include "ops/inverted_bottleneck/inverted_bottleneck.h"

#include "bindings/torch/common.h"
#include "core/activation_math.h"
#include "ops/conv2d/conv2d.h"

namespace leyolo {

Tensor torch_inverted_bottleneck(Tensor const& x, OptionalTensor const& expand_weight,
                                 OptionalTensor const& expand_bias, Tensor const& depthwise_weight,
                                 OptionalTensor const& depthwise_bias, Tensor const& project_weight,
                                 OptionalTensor const& project_bias, int64_t stride, std::string activation,
                                 bool residual) {
  View const xv = view_nhwc(x, "inverted_bottleneck: x"),
             ew = view(expand_weight, "inverted_bottleneck: expand_weight"),
             eb = view(expand_bias, "inverted_bottleneck: expand_bias"),
             dw = view(depthwise_weight, "inverted_bottleneck: depthwise_weight"),
             db = view(depthwise_bias, "inverted_bottleneck: depthwise_bias"),
             pw = view(project_weight, "inverted_bottleneck: project_weight"),
             pb = view(project_bias, "inverted_bottleneck: project_bias");
  InvertedBottleneck const params{stride, activation_from(activation, "inverted_bottleneck"), residual};
  check(dw.rank == 4 && pw.rank == 4,
        "inverted_bottleneck: depthwise_weight must be [M, 1, k, k], project_weight [O, M, 1, 1], got ", dw, ", ", pw);
  check_window("inverted_bottleneck", dw.shape[2], stride, dw.shape[2] / 2);
  int64_t const k = dw.shape[2];
  Tensor const y = empty_nhwc(x, xv.shape[0], pw.shape[0], conv_output_size(xv.shape[1], k, stride, k / 2),
                              conv_output_size(xv.shape[2], k, stride, k / 2));
  View const yv = view_nhwc(y, "inverted_bottleneck: y");
  OnDevice const context(x);
  Tensor const workspace =
      empty(x, {inverted_bottleneck_workspace(xv, ew, dw, pw, yv, params, context)}, ScalarType::Byte);
  inverted_bottleneck(xv, ew, eb, dw, db, pw, pb, yv, view(workspace, "inverted_bottleneck: workspace"), params,
                      context);
  return y;
}

LEYOLO_TORCH_OP(
    inverted_bottleneck,
    "(Tensor x, Tensor? expand_weight, Tensor? expand_bias, Tensor depthwise_weight, Tensor? depthwise_bias, "
    "Tensor project_weight, Tensor? project_bias, int stride, str activation, bool residual) -> Tensor")

}  // namespace leyolo

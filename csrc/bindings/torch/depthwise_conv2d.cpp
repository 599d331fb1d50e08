#include "ops/depthwise_conv2d/depthwise_conv2d.h"

#include "bindings/torch/common.h"
#include "core/activation_math.h"

namespace leyolo {

static Depthwise depthwise_params(std::vector<int64_t> const& stride, std::vector<int64_t> const& padding,
                                  std::vector<int64_t> const& dilation, std::string const& activation) {
  Depthwise p;
  for (int d : {0, 1}) p.stride[d] = stride.at(d), p.padding[d] = padding.at(d), p.dilation[d] = dilation.at(d);
  p.activation = activation_from(activation, "depthwise_conv2d");
  return p;
}

Tensor torch_depthwise_conv2d(Tensor const& x, Tensor const& weight, OptionalTensor const& bias,
                              std::vector<int64_t> stride, std::vector<int64_t> padding, std::vector<int64_t> dilation,
                              std::string activation) {
  View const xv = view_nhwc(x, "depthwise_conv2d: x"), w = view(weight, "depthwise_conv2d: weight"),
             b = view(bias, "depthwise_conv2d: bias");
  Depthwise const p = depthwise_params(stride, padding, dilation, activation);
  check(w.rank == 4, "depthwise_conv2d: weight must be [C, 1, kh, kw], got ", w);
  int64_t size[2];
  for (int d : {0, 1}) {
    check_window("depthwise_conv2d", w.shape[2 + d], p.stride[d], p.padding[d], p.dilation[d]);
    size[d] = conv_output_size(xv.shape[1 + d], w.shape[2 + d], p.stride[d], p.padding[d], p.dilation[d]);
  }
  Tensor const y = empty_nhwc(x, xv.shape[0], xv.shape[3], size[0], size[1]);
  View const yv = view_nhwc(y, "depthwise_conv2d: y");
  Tensor const workspace = empty(x, {depthwise_conv2d_workspace(xv, w, yv)}, ScalarType::Byte);
  depthwise_conv2d(xv, w, b, yv, view(workspace, "depthwise_conv2d: workspace"), p, OnDevice(x));
  return y;
}

// Gradients that are not wanted come back empty.
std::tuple<Tensor, Tensor, Tensor> torch_depthwise_conv2d_backward(
    Tensor const& gradient, Tensor const& x, Tensor const& weight, OptionalTensor const& bias,
    std::vector<int64_t> stride, std::vector<int64_t> padding, std::vector<int64_t> dilation, std::string activation,
    bool want_x, bool want_weight, bool want_bias) {
  View const g = view_nhwc(gradient, "depthwise_conv2d: gradient"), xv = view_nhwc(x, "depthwise_conv2d: x"),
             w = view(weight, "depthwise_conv2d: weight"), b = view(bias, "depthwise_conv2d: bias");
  Depthwise const p = depthwise_params(stride, padding, dilation, activation);
  ScalarType const dtype = x.scalar_type();
  Tensor const gx = want_x ? empty_nhwc(x, xv.shape[0], xv.shape[3], xv.shape[1], xv.shape[2]) : empty(x, {0}, dtype);
  Tensor const gw = empty(x, want_weight ? std::vector<int64_t>(w.shape, w.shape + 4) : std::vector<int64_t>{0}, dtype);
  Tensor const gb = empty(x, {want_bias ? xv.shape[3] : 0}, dtype);
  Tensor const workspace = empty(x, {depthwise_conv2d_backward_workspace(xv, w, g, p)}, ScalarType::Byte);
  depthwise_conv2d_backward(g, xv, w, b, want_x ? view_nhwc(gx, "depthwise_conv2d: x gradient") : View(),
                            want_weight ? view(gw, "depthwise_conv2d: weight gradient") : View(),
                            want_bias ? view(gb, "depthwise_conv2d: bias gradient") : View(),
                            view(workspace, "depthwise_conv2d: workspace"), p, OnDevice(x));
  return {gx, gw, gb};
}

LEYOLO_TORCH_OP(depthwise_conv2d,
                "(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] dilation, "
                "str activation) -> Tensor")
LEYOLO_TORCH_OP(
    depthwise_conv2d_backward,
    "(Tensor gradient, Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[2] padding, int[2] dilation, "
    "str activation, bool want_x, bool want_weight, bool want_bias) -> (Tensor, Tensor, Tensor)")

}  // namespace leyolo

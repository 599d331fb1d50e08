#include "ops/batch_norm_act/batch_norm_act.h"

#include "bindings/torch/common.h"
#include "core/activation_math.h"

namespace leyolo {

namespace {

// Channels last, or as it lies: row-major with the channels first.
View view_map(Tensor const& t, bool channels_first, char const* what) {
  check(t.dim() == 4, what, " must be [N, C, H, W], got ", t.dim(), " dimensions");
  return channels_first ? view(t, what) : view_nhwc(t, what);
}

Tensor empty_map(Tensor const& x, bool channels_first) {
  int64_t const n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  return channels_first ? empty(x, {n, c, h, w}, x.scalar_type()) : empty_nhwc(x, n, c, h, w);
}

}  // namespace

// Without mean and variance: those of the batch, which come back; given ones come back empty.
std::tuple<Tensor, Tensor, Tensor> torch_batch_norm_act(Tensor const& x, OptionalTensor const& weight,
                                                        OptionalTensor const& bias, OptionalTensor const& mean,
                                                        OptionalTensor const& variance, double eps,
                                                        std::string activation) {
  bool const first = !is_nhwc(x);
  View const xv = view_map(x, first, "batch_norm_act: x"), w = view(weight, "batch_norm_act: weight"),
             b = view(bias, "batch_norm_act: bias");
  bool const training = !mean;
  BatchNormAct const params{eps, activation_from(activation, "batch_norm_act"), training, first};
  int64_t const n = x.size(1);
  Tensor const y = empty_map(x, first);
  Tensor const m = empty(x, {training ? n : 0}, accumulator_of(x)), v = empty(x, {training ? n : 0}, accumulator_of(x));
  View const mv = training ? view(m, "batch_norm_act: mean") : view(mean, "batch_norm_act: mean"),
             vv = training ? view(v, "batch_norm_act: variance") : view(variance, "batch_norm_act: variance");
  Tensor const workspace = empty(x, {batch_norm_act_workspace(xv, first)}, ScalarType::Byte);
  batch_norm_act(xv, w, b, mv, vv, view_map(y, first, "batch_norm_act: y"),
                 view(workspace, "batch_norm_act: workspace"), params, OnDevice(x));
  return {y, m, v};
}

// Gradients that are not wanted come back empty.
std::tuple<Tensor, Tensor, Tensor> torch_batch_norm_act_backward(Tensor const& gradient, Tensor const& x,
                                                                 OptionalTensor const& weight,
                                                                 OptionalTensor const& bias, Tensor const& mean,
                                                                 Tensor const& variance, double eps,
                                                                 std::string activation, bool training, bool want_x,
                                                                 bool want_weight, bool want_bias) {
  bool const first = !is_nhwc(x);
  View const g = view_map(gradient, first, "batch_norm_act: gradient"), xv = view_map(x, first, "batch_norm_act: x"),
             w = view(weight, "batch_norm_act: weight"), b = view(bias, "batch_norm_act: bias");
  BatchNormAct const params{eps, activation_from(activation, "batch_norm_act"), training, first};
  int64_t const n = x.size(1);
  Tensor const gx = want_x ? empty_map(x, first) : empty(x, {0}, x.scalar_type());
  Tensor const gw = empty(x, {want_weight ? n : 0}, accumulator_of(x)),
               gb = empty(x, {want_bias ? n : 0}, accumulator_of(x));
  Tensor const workspace = empty(x, {batch_norm_act_backward_workspace(xv, first)}, ScalarType::Byte);
  batch_norm_act_backward(g, xv, w, b, view(mean, "batch_norm_act: mean"), view(variance, "batch_norm_act: variance"),
                          want_x ? view_map(gx, first, "batch_norm_act: x gradient") : View(),
                          want_weight ? view(gw, "batch_norm_act: weight gradient") : View(),
                          want_bias ? view(gb, "batch_norm_act: bias gradient") : View(),
                          view(workspace, "batch_norm_act: workspace"), params, OnDevice(x));
  return {gx, gw, gb};
}

LEYOLO_TORCH_OP(batch_norm_act,
                "(Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? variance, float eps, str activation) "
                "-> (Tensor, Tensor, Tensor)")
LEYOLO_TORCH_OP(batch_norm_act_backward,
                "(Tensor gradient, Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor variance, float eps, "
                "str activation, bool training, bool want_x, bool want_weight, bool want_bias) "
                "-> (Tensor, Tensor, Tensor)")

}  // namespace leyolo

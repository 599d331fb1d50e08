#include "ops/batch_norm_act/batch_norm_act.h"

#include <algorithm>

#include "core/dispatch.h"

namespace leyolo {

namespace {

void check_channels(View v, View x, char const* name) {
  check(!v || (v.rank == 1 && v.shape[0] == x.shape[x.rank - 1] &&
               v.dtype == (x.dtype == DType::f64 ? DType::f64 : DType::f32)),
        "batch_norm_act: ", name, " must be ", x.dtype == DType::f64 ? DType::f64 : DType::f32, " [",
        x.shape[x.rank - 1], "], got ", v);
}

void check_like(View v, View x, char const* name) {
  check(!v || (v.dtype == x.dtype && v.rank == x.rank && std::equal(v.shape, v.shape + v.rank, x.shape)),
        "batch_norm_act: ", name, " must be as x ", x, ", got ", v);
}

void check_inputs(View x, View weight, View bias, View mean, View variance, BatchNormAct const& params) {
  check_one_device("batch_norm_act", x, {weight, bias, mean, variance});
  check(x.rank >= 2, "batch_norm_act: x must be [..., C], got ", x);
  check(x.dtype == DType::f32 || x.dtype == DType::f64 || x.dtype == DType::f16 || x.dtype == DType::bf16,
        "batch_norm_act: x must be float32, float64, float16 or bfloat16, got ", x);
  check_channels(weight, x, "weight"), check_channels(bias, x, "bias");
  check_channels(mean, x, "mean"), check_channels(variance, x, "variance");
  check(mean && variance, "batch_norm_act: mean and variance are missing");
  check(params.eps >= 0, "batch_norm_act: eps must not be negative, got ", params.eps);
  check(!params.training || x.numel() != x.shape[x.rank - 1],
        "batch_norm_act: expected more than 1 value per channel when training, got ", x);
}

}  // namespace

int64_t batch_norm_act_workspace(View x) {
  return LEYOLO_DISPATCH("batch_norm_act", x.device, batch_norm_act_workspace_cpu(x, false),
                         batch_norm_act_workspace_cuda(x));
}

int64_t batch_norm_act_backward_workspace(View x) {
  return LEYOLO_DISPATCH("batch_norm_act", x.device, batch_norm_act_workspace_cpu(x, true),
                         batch_norm_act_workspace_cuda(x));
}

void batch_norm_act(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                    BatchNormAct const& params, Context const& context) {
  check_inputs(x, weight, bias, mean, variance, params);
  check_like(y, x, "y");
  check(workspace.numel() * size_of(workspace.dtype) >= batch_norm_act_workspace(x),
        "batch_norm_act: the workspace is too small");
  if (x.numel() == 0) return;
  LEYOLO_DISPATCH("batch_norm_act", x.device,
                  batch_norm_act_cpu(x, weight, bias, mean, variance, y, workspace, params, context),
                  batch_norm_act_cuda(x, weight, bias, mean, variance, y, workspace, params, context));
}

void batch_norm_act_backward(View gradient, View x, View weight, View bias, View mean, View variance, View gx, View gw,
                             View gb, View workspace, BatchNormAct const& params, Context const& context) {
  check_inputs(x, weight, bias, mean, variance, params);
  check_like(gradient, x, "the gradient"), check_like(gx, x, "the gradient of x");
  check_channels(gw, x, "the gradient of weight"), check_channels(gb, x, "the gradient of bias");
  check_one_device("batch_norm_act", x, {gradient, gx, gw, gb});
  check(workspace.numel() * size_of(workspace.dtype) >= batch_norm_act_backward_workspace(x),
        "batch_norm_act: the workspace of the backward pass is too small");
  LEYOLO_DISPATCH(
      "batch_norm_act", x.device,
      batch_norm_act_backward_cpu(gradient, x, weight, bias, mean, variance, gx, gw, gb, workspace, params, context),
      batch_norm_act_backward_cuda(gradient, x, weight, bias, mean, variance, gx, gw, gb, workspace, params, context));
}

}  // namespace leyolo

#include "ops/batch_norm_act/batch_norm_act.h"

#include <algorithm>

#include "core/dispatch.h"

namespace leyolo {

namespace {

int64_t channels_of(View x, BatchNormAct const& params) { return x.shape[params.channels_first ? 1 : x.rank - 1]; }

void check_channels(View v, View x, BatchNormAct const& params, char const* name) {
  DType const expected = x.dtype == DType::f64 ? DType::f64 : DType::f32;
  int64_t const channels = channels_of(x, params);
  check(!v || (v.rank == 1 && v.shape[0] == channels && v.dtype == expected), "batch_norm_act: ", name, " must be ",
        expected, " [", channels, "], got ", v);
}

void check_like(View v, View x, char const* name) {
  check(!v || (v.dtype == x.dtype && v.rank == x.rank && std::equal(v.shape, v.shape + v.rank, x.shape)),
        "batch_norm_act: ", name, " must be as x ", x, ", got ", v);
}

void check_inputs(View x, View weight, View bias, View mean, View variance, BatchNormAct const& params) {
  check_one_device("batch_norm_act", x, {weight, bias, mean, variance});
  check(x.rank >= 2, "batch_norm_act: x must be [..., C], got ", x);
  check(!params.channels_first || x.device == Device::cpu, "batch_norm_act: x must be in channels_last memory on CUDA");
  check(x.dtype == DType::f32 || x.dtype == DType::f64 || x.dtype == DType::f16 || x.dtype == DType::bf16,
        "batch_norm_act: x must be float32, float64, float16 or bfloat16, got ", x);
  check_channels(weight, x, params, "weight"), check_channels(bias, x, params, "bias");
  check_channels(mean, x, params, "mean"), check_channels(variance, x, params, "variance");
  check(mean && variance, "batch_norm_act: mean and variance are missing");
  check(params.eps >= 0, "batch_norm_act: eps must not be negative, got ", params.eps);
  check(!params.training || x.numel() == 0 || x.numel() != channels_of(x, params),
        "batch_norm_act: expected more than 1 value per channel when training, got ", x);
}

}  // namespace

int64_t batch_norm_act_workspace(View x, bool channels_first) {
  return LEYOLO_DISPATCH("batch_norm_act", x.device, batch_norm_act_workspace_cpu(x, channels_first, false),
                         batch_norm_act_workspace_cuda(x));
}

int64_t batch_norm_act_backward_workspace(View x, bool channels_first) {
  return LEYOLO_DISPATCH("batch_norm_act", x.device, batch_norm_act_workspace_cpu(x, channels_first, true),
                         batch_norm_act_workspace_cuda(x));
}

void batch_norm_act(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                    BatchNormAct const& params, Context const& context) {
  check_inputs(x, weight, bias, mean, variance, params);
  check_like(y, x, "y");
  check(workspace.numel() * size_of(workspace.dtype) >= batch_norm_act_workspace(x, params.channels_first),
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
  check_channels(gw, x, params, "the gradient of weight"), check_channels(gb, x, params, "the gradient of bias");
  check_one_device("batch_norm_act", x, {gradient, gx, gw, gb});
  check(workspace.numel() * size_of(workspace.dtype) >= batch_norm_act_backward_workspace(x, params.channels_first),
        "batch_norm_act: the workspace of the backward pass is too small");
  if (channels_of(x, params) == 0) return;  // an empty batch of some has gradients of weight and bias: zeros
  LEYOLO_DISPATCH(
      "batch_norm_act", x.device,
      batch_norm_act_backward_cpu(gradient, x, weight, bias, mean, variance, gx, gw, gb, workspace, params, context),
      batch_norm_act_backward_cuda(gradient, x, weight, bias, mean, variance, gx, gw, gb, workspace, params, context));
}

}  // namespace leyolo

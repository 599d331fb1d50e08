// Batch norm fused with an activation, forward and backward.
#pragma once

#include "core/activation.h"
#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct BatchNormAct {
  double eps = 1e-5;
  Activation activation = Activation::none;
  bool training = true;         // statistics of the batch; else those that are given
  bool channels_first = false;  // maps are [N, C, ...]; on the CPU only
};

// y = activation((x - mean) / sqrt(variance + eps) * weight + bias). In training mean and (biased) variance are
// written, else read. They, weight and bias are float32 (float64 for float64).
void batch_norm_act(View x /*[..., C] or [N, C, ...] f32, f64, f16, bf16*/, View weight /*[C] or absent*/,
                    View bias /*[C] or absent*/, View mean /*[C]*/, View variance /*[C]*/, View y /*as x*/,
                    View workspace /*bytes*/, BatchNormAct const& params, Context const& context);

// Gradients of sum(y * gradient) (each may be absent: not wanted). In training mean and variance, as the forward pass
// wrote them, depend on x.
void batch_norm_act_backward(View gradient /*as x*/, View x, View weight, View bias, View mean, View variance,
                             View x_gradient /*as x*/, View weight_gradient /*[C]*/, View bias_gradient /*[C]*/,
                             View workspace, BatchNormAct const& params, Context const& context);

int64_t batch_norm_act_workspace(View x, bool channels_first = false);           // bytes
int64_t batch_norm_act_backward_workspace(View x, bool channels_first = false);  // bytes

void batch_norm_act_cpu(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                        BatchNormAct const& params, Context const& context);
void batch_norm_act_cuda(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                         BatchNormAct const& params, Context const& context);
void batch_norm_act_backward_cpu(View gradient, View x, View weight, View bias, View mean, View variance,
                                 View x_gradient, View weight_gradient, View bias_gradient, View workspace,
                                 BatchNormAct const& params, Context const& context);
void batch_norm_act_backward_cuda(View gradient, View x, View weight, View bias, View mean, View variance,
                                  View x_gradient, View weight_gradient, View bias_gradient, View workspace,
                                  BatchNormAct const& params, Context const& context);
int64_t batch_norm_act_workspace_cpu(View x, bool channels_first, bool backward);
int64_t batch_norm_act_workspace_cuda(View x);

}  // namespace leyolo

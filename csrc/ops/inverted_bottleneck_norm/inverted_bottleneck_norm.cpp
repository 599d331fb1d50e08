#include "ops/inverted_bottleneck_norm/inverted_bottleneck_norm.h"

#include "core/dispatch.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_checks.h"

namespace leyolo {

namespace {

constexpr int kProject = 2;

void check_map(View v, DType type, int64_t n, int64_t h, int64_t w, int64_t c, char const* name) {
  check(v.dtype == type && v.rank == 4 && v.shape[0] == n && v.shape[1] == h && v.shape[2] == w && v.shape[3] == c,
        "inverted_bottleneck_norm: ", name, " must be ", type, " [", n, ", ", c, ", ", h, ", ", w, "], got ", v);
}

void check_weights(View x, BottleneckLayers const& w, char const* what) {
  View const d = w.depthwise;
  int64_t const c = x.shape[3], m = d.rank == 4 ? d.shape[0] : 0;
  check(d.dtype == x.dtype && d.rank == 4 && d.shape[1] == 1 && d.shape[2] == d.shape[3] && d.shape[2] > 0 && m > 0,
        "inverted_bottleneck_norm: depthwise_weight", what, " must be ", x.dtype, " [M, 1, k, k], got ", d);
  check(!w.expand || (w.expand.dtype == x.dtype && w.expand.rank == 4 && w.expand.shape[0] == m &&
                      w.expand.shape[1] == c && w.expand.shape[2] == 1 && w.expand.shape[3] == 1),
        "inverted_bottleneck_norm: expand_weight", what, " must be ", x.dtype, " [", m, ", ", c, ", 1, 1], got ",
        w.expand);
  check(w.expand || m == c, "inverted_bottleneck_norm: without expand_weight the depthwise convolution must have the ",
        c, " channels of x, got ", m);
  check(w.project.dtype == x.dtype && w.project.rank == 4 && w.project.shape[0] > 0 && w.project.shape[1] == m &&
            w.project.shape[2] == 1 && w.project.shape[3] == 1,
        "inverted_bottleneck_norm: project_weight", what, " must be ", x.dtype, " [O, ", m, ", 1, 1], got ", w.project);
  check_one_device("inverted_bottleneck_norm", x, {w.expand, w.depthwise, w.project});
}

// What the workspace is planned from.
void check_shapes(View x, BottleneckLayers const& w, View y, InvertedBottleneckNorm const& params) {
  check(x.rank == 4 && x.shape[3] > 0 &&
            (x.dtype == DType::f32 || (x.device == Device::cuda && (x.dtype == DType::f16 || x.dtype == DType::bf16))),
        "inverted_bottleneck_norm: x must be float32 (on CUDA also float16 or bfloat16) [N, C, H, W] with at least one "
        "channel, got ",
        x);
  check_weights(x, w, "");
  int64_t const n = x.shape[0], h = x.shape[1], wide = x.shape[2], c = x.shape[3], k = w.depthwise.shape[2],
                o = w.project.shape[0];
  check_window("inverted_bottleneck_norm", k, params.stride, k / 2);
  check(params.eps >= 0, "inverted_bottleneck_norm: eps must be 0 or more, got ", params.eps);
  int64_t const oh = conv_output_size(h, k, params.stride, k / 2), ow = conv_output_size(wide, k, params.stride, k / 2);
  check(n * oh * ow > 1 && n * h * wide > (w.expand ? 1 : 0),
        "inverted_bottleneck_norm: expected more than 1 value per channel when training, got ", x);
  check(!params.residual || (o == c && oh == h && ow == wide),
        "inverted_bottleneck_norm: a residual needs an output of the size of x ", x, ", got ", o, " channels of ", oh,
        " x ", ow, " (kernel ", k, ", stride ", params.stride, ")");
  check_map(y, x.dtype, n, oh, ow, o, "y");
  check_one_device("inverted_bottleneck_norm", x, {y});
}

void check_block(View x, BottleneckLayers const& w, BottleneckNorms const& norms, View y, BottleneckLayers const& z,
                 View statistics, View workspace, int64_t needed) {
  int64_t const m = w.depthwise.shape[0], o = w.project.shape[0];
  check_map(z.project, x.dtype, y.shape[0], y.shape[1], y.shape[2], o, "z of the projection");
  check_map(z.depthwise, x.dtype, y.shape[0], y.shape[1], y.shape[2], m, "z of the depthwise convolution");
  if (w.expand) check_map(z.expand, x.dtype, x.shape[0], x.shape[1], x.shape[2], m, "z of the expansion");
  int64_t const total = (w.expand ? 2 : 1) * m + o;
  check(statistics.dtype == DType::f32 && statistics.numel() == 2 * total,
        "inverted_bottleneck_norm: statistics must be float32 [2, ", total, "], got ", statistics);
  check_one_device("inverted_bottleneck_norm", x, {z.expand, z.depthwise, z.project, statistics});
  for (int l = w.expand ? 0 : 1; l < kBottleneckLayers; ++l)
    for (View const& v : {norms.weight[l], norms.bias[l]}) {
      check(!v || (v.dtype == DType::f32 && v.rank == 1 && v.shape[0] == (l == kProject ? o : m)),
            "inverted_bottleneck_norm: weights and biases of a norm must be float32 [channels of its layer], got ", v);
      check_one_device("inverted_bottleneck_norm", x, {v});
    }
  check(workspace.numel() * size_of(workspace.dtype) >= needed, "inverted_bottleneck_norm: the workspace is too small");
}

void check_bias(View v, DType type, int64_t channels, char const* name) {
  check(!v || (v.dtype == type && v.rank == 1 && v.shape[0] == channels), "inverted_bottleneck_norm: ", name,
        " must be ", type, " [", channels, "], got ", v);
}

}  // namespace

int64_t inverted_bottleneck_norm_workspace(View x, BottleneckLayers const& weights, View y,
                                           InvertedBottleneckNorm const& params, Context const& context,
                                           bool backward) {
  check_shapes(x, weights, y, params);
  return LEYOLO_DISPATCH("inverted_bottleneck_norm", x.device,
                         inverted_bottleneck_norm_workspace_cpu(x, weights, y, params, context, backward),
                         inverted_bottleneck_norm_workspace_cuda(x, weights, y, params, backward));
}

void inverted_bottleneck_norm(View x, BottleneckLayers const& weights, BottleneckLayers const& biases,
                              BottleneckNorms const& norms, View y, BottleneckLayers const& z, View statistics,
                              View workspace, InvertedBottleneckNorm const& params, Context const& context) {
  int64_t const needed = inverted_bottleneck_norm_workspace(x, weights, y, params, context, false);
  check_block(x, weights, norms, y, z, statistics, workspace, needed);
  int64_t const m = weights.depthwise.shape[0];
  check_one_device("inverted_bottleneck_norm", x, {biases.expand, biases.depthwise, biases.project});
  check_bias(biases.expand, x.dtype, m, "expand_bias"), check_bias(biases.depthwise, x.dtype, m, "depthwise_bias");
  check_bias(biases.project, x.dtype, weights.project.shape[0], "project_bias");
  LEYOLO_DISPATCH(
      "inverted_bottleneck_norm", x.device,
      inverted_bottleneck_norm_cpu(x, weights, biases, norms, y, z, statistics, workspace, params, context),
      inverted_bottleneck_norm_cuda(x, weights, biases, norms, y, z, statistics, workspace, params, context));
}

void inverted_bottleneck_norm_backward(View gradient, View x, BottleneckLayers const& weights,
                                       BottleneckNorms const& norms, BottleneckLayers const& z, View statistics,
                                       View x_gradient, BottleneckLayers const& weight_gradients, View norm_gradients,
                                       View workspace, InvertedBottleneckNorm const& params, Context const& context) {
  int64_t const needed = inverted_bottleneck_norm_workspace(x, weights, gradient, params, context, true);
  check_block(x, weights, norms, gradient, z, statistics, workspace, needed);
  check_map(x_gradient, x.dtype, x.shape[0], x.shape[1], x.shape[2], x.shape[3], "the gradient of x");
  check_weights(x, weight_gradients, "'s gradient");
  check(weight_gradients.depthwise.shape[2] == weights.depthwise.shape[2] &&
            weight_gradients.project.shape[0] == weights.project.shape[0] &&
            bool(weight_gradients.expand) == bool(weights.expand),
        "inverted_bottleneck_norm: gradients must be as the weights");
  check(norm_gradients.dtype == DType::f32 && norm_gradients.numel() == statistics.numel(),
        "inverted_bottleneck_norm: the gradients of the norms must be as the statistics ", statistics, ", got ",
        norm_gradients);
  check_one_device("inverted_bottleneck_norm", x, {x_gradient, norm_gradients});
  LEYOLO_DISPATCH("inverted_bottleneck_norm", x.device,
                  inverted_bottleneck_norm_backward_cpu(gradient, x, weights, norms, z, statistics, x_gradient,
                                                        weight_gradients, norm_gradients, workspace, params, context),
                  inverted_bottleneck_norm_backward_cuda(gradient, x, weights, norms, z, statistics, x_gradient,
                                                         weight_gradients, norm_gradients, workspace, params, context));
}

}  // namespace leyolo

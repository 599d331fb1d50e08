// The public op on CUDA: packs the weights, then one kernel; or, for float32 and for sizes that it does not take, one
// convolution after the other.
#include "core/cuda.cuh"
#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

namespace leyolo {

namespace {

// Pieces of the workspace in float32 words, each a multiple of 16 bytes.
struct Plan {
  bool fused;
  int64_t expand, depthwise, project;  // packed
  int64_t expanded, filtered;          // maps

  Plan(View x, View expand_weight, View depthwise_weight, View project_weight, View y,
       InvertedBottleneck const& params) {
    int64_t const m = depthwise_weight.shape[0], k = depthwise_weight.shape[2], channels = x.shape[0] * m;
    auto const words = [&](int64_t values) { return (values * size_of(x.dtype) + 15) / 16 * 4; };
    BottleneckShape const shape{x.shape[0],      y.shape[1], y.shape[2],         int(x.shape[3]),    int(m),
                                int(y.shape[3]), int(k),     int(params.stride), bool(expand_weight)};
    bool const half = x.dtype == DType::f16 || x.dtype == DType::bf16;
    fused = half && bottleneck_tile_here(shape).warps > 0;
    expand = expand_weight ? (conv2d_packed_size(expand_weight) + 3) / 4 * 4 : 0;
    depthwise = (depthwise_cuda_packed_size(m, k, x.dtype) + 3) / 4 * 4;
    project = (conv2d_packed_size(project_weight) + 3) / 4 * 4;
    expanded = fused || !expand_weight ? 0 : words(channels * x.shape[1] * x.shape[2]);
    filtered = fused ? 0 : words(channels * y.shape[1] * y.shape[2]);
  }
  int64_t bytes() const { return 4 * (expand + depthwise + project + expanded + filtered); }
};

View packed_view(float* data, int64_t size) { return {data, DType::f32, Device::cuda, 1, {size}}; }

}  // namespace

int64_t inverted_bottleneck_cuda_workspace(View x, View expand_weight, View depthwise_weight, View project_weight,
                                           View y, InvertedBottleneck const& params) {
  return Plan(x, expand_weight, depthwise_weight, project_weight, y, params).bytes();
}

void inverted_bottleneck_cuda(View x, View expand_weight, View expand_bias, View depthwise_weight, View depthwise_bias,
                              View project_weight, View project_bias, View y, View workspace,
                              InvertedBottleneck const& params, Context const& context) {
  Plan const plan(x, expand_weight, depthwise_weight, project_weight, y, params);
  float *const expand = workspace.as<float>(), *const depthwise = expand + plan.expand,
               *const project = depthwise + plan.depthwise, *const expanded = project + plan.project,
               *const filtered = expanded + plan.expanded;
  int64_t const m = depthwise_weight.shape[0], k = depthwise_weight.shape[2];
  if (expand_weight)
    conv2d_pack(expand_weight, expand_bias, packed_view(expand, conv2d_packed_size(expand_weight)), context);
  depthwise_pack_cuda(depthwise_weight, depthwise_bias,
                      packed_view(depthwise, depthwise_cuda_packed_size(m, k, x.dtype)), context);
  conv2d_pack(project_weight, project_bias, packed_view(project, conv2d_packed_size(project_weight)), context);

  int const h = int(x.shape[1]), w = int(x.shape[2]), c = int(x.shape[3]), oh = int(y.shape[1]), ow = int(y.shape[2]),
            o = int(y.shape[3]), middle = int(m), kernel = int(k), stride = int(params.stride);
  int64_t const n = x.shape[0], x_image = int64_t(h) * w * c, y_image = int64_t(oh) * ow * o;
  void const* const residual = params.residual ? x.data : nullptr;
  if (plan.fused) {
    bottleneck_images_cuda({x.data,     expand_weight ? expand : nullptr,
                            depthwise,  project,
                            residual,   y.data,
                            n,          x_image,
                            y_image,    x_image,
                            h,          w,
                            oh,         ow,
                            c,          o,
                            c,          c,
                            middle,     o,
                            kernel,     stride,
                            kernel / 2, params.activation},
                           x.dtype, context);
    return;
  }
  int64_t const expanded_image = int64_t(h) * w * m, filtered_image = int64_t(oh) * ow * m;
  if (expand_weight)
    conv2d_images_cuda(
        {x.data, expand, nullptr, expanded, x.dtype, x.dtype, n, x_image, expanded_image,   0, h, w, h, w,
         c,      middle, 0,       c,        middle,  1,       1, 0,       params.activation},
        x.dtype, context);
  depthwise_images_cuda(
      {expand_weight ? expanded : x.data, depthwise, filtered, x.dtype, n, expand_weight ? expanded_image : x_image,
       filtered_image, h, w, oh, ow, middle, middle, middle, kernel, stride, kernel / 2, params.activation},
      x.dtype, context);
  conv2d_images_cuda({filtered,
                      project,
                      residual,
                      y.data,
                      x.dtype,
                      x.dtype,
                      n,
                      filtered_image,
                      y_image,
                      x_image,
                      oh,
                      ow,
                      oh,
                      ow,
                      middle,
                      o,
                      c,
                      middle,
                      o,
                      1,
                      1,
                      0,
                      Activation::none},
                     x.dtype, context);
}

}  // namespace leyolo

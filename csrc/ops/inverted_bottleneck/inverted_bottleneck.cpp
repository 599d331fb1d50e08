#include "ops/inverted_bottleneck/inverted_bottleneck.h"

#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"

namespace leyolo {

namespace {

// Sizes in float32 values; the expanded tensors are those of one image, images follow one another.
struct Sizes {
  int64_t middle, kernel, expand_packed, depthwise_packed, project_packed, expanded, filtered, copies;

  Sizes(View x, View expand, View depthwise, View project, View y) {
    middle = depthwise.shape[0], kernel = depthwise.shape[2];
    expand_packed = expand ? conv2d_packed_size(middle, x.shape[3], 1) : 0;
    depthwise_packed = depthwise_packed_size(middle, kernel, kernel);
    project_packed = conv2d_packed_size(project.shape[0], middle, 1);
    expanded = expand ? x.shape[1] * x.shape[2] * middle : 0;
    filtered = y.shape[1] * y.shape[2] * middle;
    copies = x.dtype == DType::f32 ? 0 : x.numel() + y.numel();
  }
  int64_t total() const { return expand_packed + depthwise_packed + project_packed + expanded + filtered + copies; }
};

void inverted_bottleneck_cpu(View x, View expand_weight, View expand_bias, View depthwise_weight, View depthwise_bias,
                             View project_weight, View project_bias, View y, View workspace,
                             InvertedBottleneck const& params, Context const& context) {
  Sizes const s(x, expand_weight, depthwise_weight, project_weight, y);
  float* scratch = workspace.as<float>();
  auto const take = [&](int64_t count) {
    float* const p = scratch;
    scratch += count;
    return p;
  };
  auto const packed_view = [](float* p, int64_t n) { return View{p, DType::f32, Device::cpu, 1, {n}}; };
  float *const expand = take(s.expand_packed), *const depthwise = take(s.depthwise_packed),
               *const project = take(s.project_packed), *const expanded = take(s.expanded),
               *const filtered = take(s.filtered);
  bool const half = x.dtype != DType::f32;
  float* const from = half ? take(x.numel()) : x.as<float>();
  float* const to = half ? take(y.numel()) : y.as<float>();
  if (half) to_float(x.data, x.dtype, from, x.numel(), context);
  if (expand_weight) conv2d_pack(expand_weight, expand_bias, packed_view(expand, s.expand_packed));
  depthwise_pack(depthwise_weight, depthwise_bias, packed_view(depthwise, s.depthwise_packed));
  conv2d_pack(project_weight, project_bias, packed_view(project, s.project_packed));

  int64_t const h = x.shape[1], w = x.shape[2], c = x.shape[3], oh = y.shape[1], ow = y.shape[2], o = y.shape[3];
  int const m = int(s.middle), k = int(s.kernel), stride = int(params.stride);
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    float const* const image = from + n * h * w * c;
    if (expand_weight)
      conv2d_image({image, expand, conv2d_packed_bias(expand, m, c, 1), nullptr, expanded, h, w, h, w, c, m, m, int(c),
                    m, 1, 1, 0, params.activation},
                   context);
    DepthwiseArgs a{};
    a.x = expand_weight ? expanded : image;
    a.weight = depthwise;
    a.padded = int((m + lanes() - 1) / lanes() * lanes());
    a.bias = depthwise + int64_t(a.padded) * k * k;
    a.y = filtered;
    a.height = h, a.width = w, a.out_height = oh, a.out_width = ow;
    a.channels = m, a.x_pitch = a.y_pitch = m;
    a.kernel_h = a.kernel_w = k, a.stride_h = a.stride_w = stride, a.padding_h = a.padding_w = k / 2;
    a.dilation_h = a.dilation_w = 1;
    a.activation = params.activation;
    depthwise_image(a, context);
    conv2d_image({filtered, project, conv2d_packed_bias(project, o, m, 1), params.residual ? image : nullptr,
                  to + n * oh * ow * o, oh, ow, oh, ow, m, o, c, m, int(o), 1, 1, 0, Activation::none},
                 context);
  }
  if (half) from_float(to, y.data, y.dtype, y.numel(), context);
}

}  // namespace

int64_t inverted_bottleneck_workspace(View x, View expand_weight, View depthwise_weight, View project_weight, View y) {
  return 4 * Sizes(x, expand_weight, depthwise_weight, project_weight, y).total();
}

void inverted_bottleneck(View x, View expand_weight, View expand_bias, View depthwise_weight, View depthwise_bias,
                         View project_weight, View project_bias, View y, View workspace,
                         InvertedBottleneck const& params, Context const& context) {
  constexpr char const* op = "inverted_bottleneck: ";
  check(x.rank == 4 && x.shape[3] > 0, op, "x must be [N, C, H, W], got ", x);
  check(x.dtype == DType::f32 || x.dtype == DType::f16 || x.dtype == DType::bf16, op,
        "x must be float32, float16 or bfloat16, got ", x);
  int64_t const c = x.shape[3];
  check(depthwise_weight.rank == 4 && depthwise_weight.shape[1] == 1 &&
            depthwise_weight.shape[2] == depthwise_weight.shape[3] && depthwise_weight.shape[2] % 2 == 1,
        op, "depthwise_weight must be [M, 1, k, k] with odd k, got ", depthwise_weight);
  int64_t const m = depthwise_weight.shape[0];
  check(m > 0, op, "depthwise_weight must have at least one channel, got ", depthwise_weight);
  check(!overlap(x, y), op, "the output must not share memory with x");
  if (expand_weight)
    check(expand_weight.rank == 4 && expand_weight.shape[0] == m && expand_weight.shape[1] == c &&
              expand_weight.shape[2] == 1 && expand_weight.shape[3] == 1,
          op, "expand_weight must be [", m, ", ", c, ", 1, 1], got ", expand_weight);
  else
    check(m == c, op, "without expand_weight, depthwise_weight must have the ", c, " channels of x, got ",
          depthwise_weight);
  check(project_weight.rank == 4 && project_weight.shape[1] == m && project_weight.shape[2] == 1 &&
            project_weight.shape[3] == 1,
        op, "project_weight must be [O, ", m, ", 1, 1], got ", project_weight);
  int64_t const o = project_weight.shape[0];
  struct {
    char const* name;
    View bias;
    int64_t size;
  } const biases[] = {
      {"expand_bias", expand_bias, m}, {"depthwise_bias", depthwise_bias, m}, {"project_bias", project_bias, o}};
  for (auto const& [name, bias, size] : biases)
    check(!bias || (bias.rank == 1 && bias.shape[0] == size), op, name, " must be [", size, "], got ", bias);
  for (View const& v : {expand_weight, expand_bias, depthwise_weight, depthwise_bias, project_weight, project_bias})
    check(!v || (v.dtype == x.dtype && v.device == x.device), op,
          "weights and biases must share dtype and device with x ", x, ", got ", v);
  check(params.stride > 0, op, "stride must be positive, got ", params.stride);
  check(!params.residual || (params.stride == 1 && o == c), op,
        "a residual needs stride 1 and as many output as input channels, got stride ", params.stride, ", ", c, " -> ",
        o);
  int64_t const k = depthwise_weight.shape[2];
  check(y.rank == 4 && y.shape[0] == x.shape[0] && y.shape[3] == o &&
            y.shape[1] == conv_output_size(x.shape[1], k, params.stride, k / 2) &&
            y.shape[2] == conv_output_size(x.shape[2], k, params.stride, k / 2),
        op, "y must be [N, H', W', O], got ", y);
  if (y.numel() == 0) return;
  check(workspace.numel() * size_of(workspace.dtype) >=
            inverted_bottleneck_workspace(x, expand_weight, depthwise_weight, project_weight, y),
        op, "the workspace is too small");
  LEYOLO_CPU_ONLY("inverted_bottleneck", x.device,
                  inverted_bottleneck_cpu(x, expand_weight, expand_bias, depthwise_weight, depthwise_bias,
                                          project_weight, project_bias, y, workspace, params, context));
}

}  // namespace leyolo

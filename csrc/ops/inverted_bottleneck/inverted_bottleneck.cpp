#include "ops/inverted_bottleneck/inverted_bottleneck.h"

#include <algorithm>

#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

namespace leyolo {

namespace {

// The convolutions of one image; whoever runs them sets x and y.
struct Block {
  Conv2dArgs expand, project;
  DepthwiseArgs depthwise;
};

// One of them as a layer of `stream`.
template <class Args, void (*BAND)(Args const&, int64_t, int64_t)>
void run(void const* args, char const* x, char* y, int64_t begin, int64_t end) {
  Args a = *static_cast<Args const*>(args);
  a.x = reinterpret_cast<float const*>(x), a.y = reinterpret_cast<float*>(y);
  BAND(a, begin, end);
}
constexpr auto* run_dense = run<Conv2dArgs, conv2d_band>;
constexpr auto* run_depthwise = run<DepthwiseArgs, depthwise_band>;

// The way it runs, and the scratch memory in float32 values.
struct Plan {
  StreamLayer layers[3];
  int count = 0;     // layers: 2 without expansion
  int64_t band = 0;  // rows, when streamed; 0: staged
  int64_t pieces;    // of all rows, when streamed: one for each thread, with windows of its own
  int64_t expand_packed, depthwise_packed, project_packed;
  int64_t expanded, filtered;  // maps of one image: images follow one another
  int64_t copies;              // of x and y, where they are not float32

  Plan(View x, View expand, View depthwise, View project, View y, InvertedBottleneck const& params, int threads) {
    int64_t const m = depthwise.shape[0], k = depthwise.shape[2], h = x.shape[1], w = x.shape[2], oh = y.shape[1],
                  ow = y.shape[2];
    expand_packed = expand ? conv2d_packed_size(m, x.shape[3], 1) : 0;
    depthwise_packed = depthwise_packed_size(m, k, k);
    project_packed = conv2d_packed_size(project.shape[0], m, 1);
    expanded = expand ? h * w * m : 0;
    filtered = oh * ow * m;
    copies = x.dtype == DType::f32 ? 0 : x.numel() + y.numel();
    if (expand) layers[count++] = {h, 1, 1, 0, 4 * w * m, 0, run_dense, nullptr};
    layers[count++] = {oh, k, params.stride, k / 2, 4 * ow * m, 0, run_depthwise, nullptr};
    layers[count++] = {oh, 1, 1, 0, 0, 0, run_dense, nullptr};
    pieces = std::min<int64_t>(threads, oh);
    // Where two pieces meet, rows of the expanded map are made twice. Of thin pieces that is too much of the work, and
    // each thread's part of the map is small.
    int64_t const twice = expand ? (pieces - 1) * std::max<int64_t>(0, k - params.stride) : 0;
    bool const thin = params.model.share > 0 && 5 * twice > h;
    if (params.model.leaves(4 * std::max(expanded, filtered)) && !thin) band = params.model.windows(layers, count);
  }
  int64_t window_bytes() const { return stream_window_bytes(layers, count); }
  int64_t maps() const { return band ? pieces * window_bytes() / 4 : expanded + filtered; }
  int64_t total() const { return expand_packed + depthwise_packed + project_packed + maps() + copies; }
};

void staged(Block& b, bool expands, float const* image, float* expanded, float* filtered, float* y,
            Context const& context) {
  if (expands) {
    b.expand.x = image, b.expand.y = expanded;
    conv2d_image(b.expand, context);
  }
  b.depthwise.x = expands ? expanded : image, b.depthwise.y = filtered;
  depthwise_image(b.depthwise, context);
  b.project.x = filtered, b.project.y = y;
  conv2d_image(b.project, context);
}

void inverted_bottleneck_cpu(View x, View expand_weight, View expand_bias, View depthwise_weight, View depthwise_bias,
                             View project_weight, View project_bias, View y, View workspace,
                             InvertedBottleneck const& params, Context const& context) {
  Plan plan(x, expand_weight, depthwise_weight, project_weight, y, params, context.threads);
  float* scratch = workspace.as<float>();
  auto const take = [&](int64_t count) {
    float* const p = scratch;
    scratch += count;
    return p;
  };
  auto const packed_view = [](float* p, int64_t n) { return View{p, DType::f32, Device::cpu, 1, {n}}; };
  float *const expand = take(plan.expand_packed), *const depthwise = take(plan.depthwise_packed),
               *const project = take(plan.project_packed), *const maps = take(plan.maps());
  bool const half = x.dtype != DType::f32;
  float* const from = half ? take(x.numel()) : x.as<float>();
  float* const to = half ? take(y.numel()) : y.as<float>();
  if (half) to_float(x.data, x.dtype, from, x.numel(), context);
  if (expand_weight) conv2d_pack(expand_weight, expand_bias, packed_view(expand, plan.expand_packed));
  depthwise_pack(depthwise_weight, depthwise_bias, packed_view(depthwise, plan.depthwise_packed));
  conv2d_pack(project_weight, project_bias, packed_view(project, plan.project_packed));

  int64_t const h = x.shape[1], w = x.shape[2], c = x.shape[3], oh = y.shape[1], ow = y.shape[2], o = y.shape[3];
  int const m = int(depthwise_weight.shape[0]), k = int(depthwise_weight.shape[2]), stride = int(params.stride);
  Block block{};
  if (expand_weight)
    block.expand = {nullptr, expand,  conv2d_packed_bias(expand, m, c, 1),
                    nullptr, nullptr, h,
                    w,       h,       w,
                    c,       m,       0,
                    int(c),  m,       1,
                    1,       0,       params.activation};
  block.project = {nullptr, project, conv2d_packed_bias(project, o, m, 1),
                   nullptr, nullptr, oh,
                   ow,      oh,      ow,
                   m,       o,       c,
                   m,       int(o),  1,
                   1,       0,       Activation::none};
  DepthwiseArgs& a = block.depthwise;
  a.weight = depthwise;
  a.padded = int((m + lanes() - 1) / lanes() * lanes());
  a.bias = depthwise + int64_t(a.padded) * k * k;
  a.height = h, a.width = w, a.out_height = oh, a.out_width = ow;
  a.channels = m, a.x_pitch = a.y_pitch = m;
  a.kernel_h = a.kernel_w = k, a.stride_h = a.stride_w = stride, a.padding_h = a.padding_w = k / 2;
  a.dilation_h = a.dilation_w = 1;
  a.activation = params.activation;
  plan.layers[0].layer = &block.expand;
  plan.layers[plan.count - 2].layer = &block.depthwise;
  plan.layers[plan.count - 1].layer = &block.project;
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    float const* const image = from + n * h * w * c;
    float* const result = to + n * oh * ow * o;
    block.project.residual = params.residual ? image : nullptr;
    if (plan.band)
      stream(plan.layers, plan.count, reinterpret_cast<char const*>(image), reinterpret_cast<char*>(result), plan.band,
             plan.pieces, reinterpret_cast<char*>(maps), plan.window_bytes(), context);
    else
      staged(block, bool(expand_weight), image, maps, maps + plan.expanded, result, context);
  }
  if (half) from_float(to, y.data, y.dtype, y.numel(), context);
}

}  // namespace

int64_t inverted_bottleneck_workspace(View x, View expand_weight, View depthwise_weight, View project_weight, View y,
                                      InvertedBottleneck const& params, Context const& context) {
  return LEYOLO_DISPATCH(
      "inverted_bottleneck", x.device,
      4 * Plan(x, expand_weight, depthwise_weight, project_weight, y, params, context.threads).total(),
      inverted_bottleneck_cuda_workspace(x, expand_weight, depthwise_weight, project_weight, y, params));
}

int64_t inverted_bottleneck_band(View x, View expand_weight, View depthwise_weight, View project_weight, View y,
                                 InvertedBottleneck const& params, Context const& context) {
  return Plan(x, expand_weight, depthwise_weight, project_weight, y, params, context.threads).band;
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
  check(m > 0 && project_weight.numel() > 0, op, "weights must not be empty, got ", depthwise_weight, " and ",
        project_weight);
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
  check_window("inverted_bottleneck", depthwise_weight.shape[2], params.stride, depthwise_weight.shape[2] / 2);
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
            inverted_bottleneck_workspace(x, expand_weight, depthwise_weight, project_weight, y, params, context),
        op, "the workspace is too small");
  LEYOLO_DISPATCH("inverted_bottleneck", x.device,
                  inverted_bottleneck_cpu(x, expand_weight, expand_bias, depthwise_weight, depthwise_bias,
                                          project_weight, project_bias, y, workspace, params, context),
                  inverted_bottleneck_cuda(x, expand_weight, expand_bias, depthwise_weight, depthwise_bias,
                                           project_weight, project_bias, y, workspace, params, context));
}

}  // namespace leyolo

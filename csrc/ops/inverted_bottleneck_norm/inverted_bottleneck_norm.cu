// A block in training, one kernel for each convolution and direction. Norms have no kernels of their own but the small
// ones that turn sums into constants: what a norm does to its map happens where the map is read (norm_layer.cuh). Only
// a depthwise convolution that is none of depthwise_norm.cu's stores the map in front of it.
#include <algorithm>

#include "core/channels.cuh"
#include "ops/batch_norm_act/batch_norm_act.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.cuh"
#include "ops/inverted_bottleneck_norm/inverted_bottleneck_norm.h"
#include "ops/inverted_bottleneck_norm/norm_layer.cuh"

namespace leyolo {

namespace {

constexpr int kExpand = 0, kDepthwise = 1, kProject = 2;

View map_like(View x, void* data, View size, int64_t channels) {
  View v = x;
  v.data = data;
  std::copy_n(size.shape, 3, v.shape);
  v.shape[3] = channels;
  return v;
}

// Sizes, and where things lie in the workspace; without one only its size.
struct Plan {
  bool expands, fused;  // fused: the depthwise convolution with its norms
  int64_t in, middle, out, in_pixels, out_pixels, channels[kBottleneckLayers];
  DType type;
  Depthwise params;
  FilterNorm depthwise;  // without its map z

  NormConstants norm[kBottleneckLayers];
  char *packed, *expand_packed, *normalised = nullptr, *filtered = nullptr, *wide = nullptr, *more;
  double* pieces;
  float* weight_pieces;
  int64_t bytes = 0;

  Plan(View x, BottleneckLayers const& w, View y, InvertedBottleneckNorm const& block, bool backward,
       char* workspace = nullptr) {
    expands = bool(w.expand), type = x.dtype;
    in = x.shape[3], middle = w.depthwise.shape[0], out = y.shape[3];
    in_pixels = x.shape[0] * x.shape[1] * x.shape[2], out_pixels = x.shape[0] * y.shape[1] * y.shape[2];
    channels[kExpand] = channels[kDepthwise] = middle, channels[kProject] = out;
    int64_t const k = w.depthwise.shape[2], size = size_of(type);
    params = {{block.stride, block.stride}, {k / 2, k / 2}};
    auto const take = [&]<class T>(T*& p, int64_t n) {
      p = workspace ? reinterpret_cast<T*>(workspace + bytes) : nullptr;
      bytes += (n * int64_t(sizeof(T)) + 255) / 256 * 256;
    };
    for (int l = first(); l < kBottleneckLayers; ++l) {
      float* memory = nullptr;
      take(memory, NormConstants::size(channels[l]));
      norm[l] = NormConstants(memory, channels[l]);
    }
    depthwise = {expands ? map_like(x, nullptr, x, middle) : x, w.depthwise, map_like(x, nullptr, y, middle), params,
                 expands ? norm[kExpand] : NormConstants()};
    // Without expansion x and the gradient of y come from the caller, at any address.
    fused = depthwise.fits(block.activation) && (expands || !block.residual || pairs_fit(2, size, y.data));
    take(packed, size * pointwise_packed_size(out, middle));
    if (expands) take(expand_packed, size * pointwise_packed_size(middle, in));
    if (expands && !fused) take(normalised, size * in_pixels * middle);
    if (backward) take(filtered, size * out_pixels * middle);
    if (backward && expands) take(wide, size * in_pixels * middle);

    View const last = map_like(x, nullptr, y, out);
    int64_t extra = batch_norm_act_workspace_cuda(last), sums = 0, weights = 0;
    auto const need = [&](int64_t pixels, int64_t o, int64_t i) {
      int64_t const normed = backward ? i : o;
      sums = std::max(sums, values_of(backward) * normed * pointwise_norm_pieces(pixels, normed));
      weights = std::max(weights, o * i * pointwise_weight_pieces(pixels, o, i));
    };
    need(out_pixels, out, middle);
    if (expands) need(in_pixels, middle, in);
    if (fused) {
      sums = std::max(sums, values_of(backward) * middle * depthwise.pieces(backward));
      if (backward) extra = std::max(extra, depthwise.workspace());
    } else {
      extra = std::max({extra, batch_norm_act_workspace_cuda(depthwise.x), batch_norm_act_workspace_cuda(depthwise.z)});
      if (backward)
        extra = std::max(extra,
                         depthwise_conv2d_backward_workspace_cuda(depthwise.x, depthwise.weight, depthwise.z, params));
    }
    take(pieces, sums);
    if (backward) take(weight_pieces, weights);
    take(more, extra);
  }

  int first() const { return expands ? kExpand : kDepthwise; }
  static int64_t values_of(bool backward) { return backward ? 2 : 3; }  // of a piece and a channel: see NormPieces
  int64_t place(int layer) const {  // of a layer's means in the statistics; the variances follow at total()
    int64_t const before = expands ? middle : 0;
    return layer == kExpand ? 0 : layer == kDepthwise ? before : before + middle;
  }
  int64_t total() const { return place(kProject) + out; }
  int64_t pixels(int layer) const { return layer == kExpand ? in_pixels : out_pixels; }
  NormMap map(void const* values, int64_t n) const { return {values, nullptr, {}, Activation::none, int(n)}; }
  NormMap through(int layer, void const* z, Activation activation) const {
    return {z, nullptr, norm[layer], activation, int(channels[layer])};
  }
  NormMap gradient_of(int layer, void const* dz, void const* z) const {
    return {dz, z, norm[layer], Activation::none, int(channels[layer])};
  }
};

struct Block {
  Plan const& p;
  BottleneckLayers const &weights, &z;
  BottleneckNorms const& norms;
  View statistics;
  InvertedBottleneckNorm const& params;
  Context const& context;

  NormValues values(int l) const {
    float* const mean = statistics.as<float>() + p.place(l);
    return {norms.weight[l] ? norms.weight[l].as<float>() : nullptr,
            norms.bias[l] ? norms.bias[l].as<float>() : nullptr, mean, mean + p.total(), params.eps};
  }
  View floats(float* data, int64_t n) const {
    View v = statistics;
    v.data = data, v.rank = 1, v.shape[0] = n;
    return v;
  }
  View more() const { return floats(reinterpret_cast<float*>(p.more), 0); }
  NormPieces made(int n) const { return {p.pieces, n}; }

  void settle(int l, NormPieces const& pieces = {}) const {
    norm_settle_cuda(pieces, values(l), p.norm[l], p.pixels(l), context);
  }
  void convolve(int l, Reads reads, NormMap const& x, View weight, View bias, View to, char* packed) const {
    pointwise_pack_cuda(weight, false, packed, context);
    NormOutput const y{to.data, bias ? bias.data : nullptr, nullptr, {}, Activation::none, int(p.channels[l])};
    pointwise_norm_cuda(p.type, reads, x, packed, Writes::statistics, y, p.pieces, p.pixels(l), context);
    settle(l, made(pointwise_norm_pieces(p.pixels(l), p.channels[l])));
  }
  FilterNorm layer() const {
    FilterNorm d = p.depthwise;
    if (p.expands) d.x.data = p.fused ? z.expand.data : p.normalised;
    d.z.data = z.depthwise.data;
    return d;
  }
  NormMap expanded() const { return p.through(kExpand, z.expand.data, params.activation); }
  NormMap filtered() const { return p.through(kDepthwise, z.depthwise.data, params.activation); }

  void filter(View bias) const {
    FilterNorm const d = layer();
    if (p.fused) {
      depthwise_norm_cuda(d, bias, p.pieces, context);
      return settle(kDepthwise, made(d.pieces(false)));
    }
    if (p.expands) norm_map_cuda(p.type, Reads::norm, expanded(), nullptr, d.x.data, p.in_pixels, context);
    depthwise_forward_cuda(d.x, d.weight, bias, View(), d.z, p.params, context);
    NormValues const v = values(kDepthwise);
    batch_norm_act_cuda(d.z, View(), View(), floats(v.mean, p.middle), floats(v.variance, p.middle), View(), more(), {},
                        context);
    settle(kDepthwise);
  }

  void forward(View x, BottleneckLayers const& biases, View y) const {
    if (p.expands)
      convolve(kExpand, Reads::raw, p.map(x.data, p.in), weights.expand, biases.expand, z.expand, p.expand_packed);
    filter(biases.depthwise);
    convolve(kProject, Reads::norm, filtered(), weights.project, biases.project, z.project, p.packed);
    norm_map_cuda(p.type, Reads::norm, p.through(kProject, z.project.data, Activation::none),
                  params.residual ? x.data : nullptr, y.data, p.out_pixels, context);
  }

  // Of the norm's weight and bias, from pieces or from dz, the gradient of norm(z).
  void settle_gradient(int l, View norm_gradients, NormPieces const& pieces, View dz = View(),
                       View map = View()) const {
    float *const of_weight = norm_gradients.as<float>() + p.place(l), *const of_bias = of_weight + p.total();
    NormValues const v = values(l);
    int64_t const n = p.channels[l];
    if (dz)
      batch_norm_act_backward_cuda(dz, map, View(), View(), floats(v.mean, n), floats(v.variance, n), View(),
                                   floats(of_weight, n), floats(of_bias, n), more(), {params.eps}, context);
    norm_settle_gradient_cuda(pieces, v, of_weight, of_bias, p.norm[l], p.pixels(l), context);
  }

  // From the gradient of the norm behind to `to`, the gradient of the norm before, or of x.
  void filter_backward(void* to, void const* added, View weight_gradient, View norm_gradients) const {
    FilterNorm const d = layer();
    NormMap const gradient = p.gradient_of(kDepthwise, p.filtered, z.depthwise.data);
    if (p.fused) {
      depthwise_norm_backward_cuda(d, gradient, added, to, weight_gradient, p.pieces, p.more, context);
      if (p.expands) settle_gradient(kExpand, norm_gradients, made(d.pieces(true)));
      return;
    }
    View dz = d.z, dx = d.x;
    dz.data = p.filtered, dx.data = to;
    norm_map_cuda(p.type, Reads::gradient, gradient, nullptr, dz.data, p.out_pixels, context);
    if (p.expands) norm_map_cuda(p.type, Reads::norm, expanded(), nullptr, d.x.data, p.in_pixels, context);
    depthwise_conv2d_backward_cuda(dz, d.x, d.weight, View(), dx, weight_gradient, View(), more(), p.params, context);
    if (added) norm_map_cuda(p.type, Reads::raw, p.map(to, p.in), added, to, p.in_pixels, context);
    if (!p.expands) return;
    norm_slopes_cuda(p.type, expanded(), to, p.in_pixels, context);
    settle_gradient(kExpand, norm_gradients, {}, dx, z.expand);
  }

  void backward(View dy, View x, View dx, BottleneckLayers const& weight_gradients, View norm_gradients) const {
    for (int l = p.first(); l < kBottleneckLayers; ++l) settle(l);
    settle_gradient(kProject, norm_gradients, {}, dy, z.project);

    NormMap const last = p.gradient_of(kProject, dy.data, z.project.data);
    pointwise_pack_cuda(weights.project, true, p.packed, context);
    pointwise_norm_cuda(p.type, Reads::gradient, last, p.packed, Writes::slopes,
                        {p.filtered, nullptr, z.depthwise.data, p.norm[kDepthwise], params.activation, int(p.middle)},
                        p.pieces, p.out_pixels, context);
    settle_gradient(kDepthwise, norm_gradients, made(pointwise_norm_pieces(p.out_pixels, p.middle)));
    pointwise_weight_cuda(p.type, last, Reads::norm, filtered(), p.weight_pieces, weight_gradients.project,
                          p.out_pixels, context);

    void const* const added = params.residual ? dy.data : nullptr;
    filter_backward(p.expands ? p.wide : dx.data, p.expands ? nullptr : added, weight_gradients.depthwise,
                    norm_gradients);
    if (!p.expands) return;
    NormMap const first = p.gradient_of(kExpand, p.wide, z.expand.data);
    pointwise_pack_cuda(weights.expand, true, p.expand_packed, context);
    pointwise_norm_cuda(p.type, Reads::gradient, first, p.expand_packed, Writes::gradient,
                        {dx.data, nullptr, added, {}, Activation::none, int(p.in)}, nullptr, p.in_pixels, context);
    pointwise_weight_cuda(p.type, first, Reads::raw, p.map(x.data, p.in), p.weight_pieces, weight_gradients.expand,
                          p.in_pixels, context);
  }
};

}  // namespace

int64_t inverted_bottleneck_norm_workspace_cuda(View x, BottleneckLayers const& weights, View y,
                                                InvertedBottleneckNorm const& params, bool backward) {
  return Plan(x, weights, y, params, backward).bytes;
}

void inverted_bottleneck_norm_cuda(View x, BottleneckLayers const& weights, BottleneckLayers const& biases,
                                   BottleneckNorms const& norms, View y, BottleneckLayers const& z, View statistics,
                                   View workspace, InvertedBottleneckNorm const& params, Context const& context) {
  Plan const plan(x, weights, y, params, false, workspace.as<char>());
  Block{plan, weights, z, norms, statistics, params, context}.forward(x, biases, y);
}

void inverted_bottleneck_norm_backward_cuda(View gradient, View x, BottleneckLayers const& weights,
                                            BottleneckNorms const& norms, BottleneckLayers const& z, View statistics,
                                            View x_gradient, BottleneckLayers const& weight_gradients,
                                            View norm_gradients, View workspace, InvertedBottleneckNorm const& params,
                                            Context const& context) {
  Plan const plan(x, weights, gradient, params, true, workspace.as<char>());
  Block{plan, weights, z, norms, statistics, params, context}.backward(gradient, x, x_gradient, weight_gradients,
                                                                       norm_gradients);
}

}  // namespace leyolo

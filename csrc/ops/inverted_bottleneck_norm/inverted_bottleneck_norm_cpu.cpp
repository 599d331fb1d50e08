#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/isa.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d_checks.h"
#include "ops/inverted_bottleneck_norm/depthwise_norm.h"
#include "ops/inverted_bottleneck_norm/inverted_bottleneck_norm.h"
#include "ops/inverted_bottleneck_norm/norm_layer.h"
#include "ops/inverted_bottleneck_norm/norm_pieces.h"
#include "ops/inverted_bottleneck_norm/pointwise_norm.h"

namespace leyolo {

namespace {

constexpr int kExpand = 0, kDepthwise = 1, kProject = 2;

View floats(float* p, int64_t n) { return {p, DType::f32, Device::cpu, 1, {n}}; }

// The sizes of a block, and where things lie in its workspace; without a workspace only its size.
struct Plan {
  bool expands;
  int64_t in, middle, out, in_pixels, out_pixels;
  PointwiseNorm expand, project;
  DepthwiseNorm depthwise;
  int64_t channels[kBottleneckLayers], pieces[kBottleneckLayers];

  NormSums sums[kBottleneckLayers] = {};  // [pieces]
  float *tables[kBottleneckLayers] = {}, *expand_packed, *depthwise_packed, *project_packed;
  float *mirrored, *transposed, *weight_sums, *gradients[kBottleneckLayers];  // backward only
  float* scratch;
  int64_t bytes;

  Plan(View x, BottleneckLayers const& w, View y, InvertedBottleneckNorm const& params, int threads, bool backward,
       char* workspace = nullptr) {
    expands = bool(w.expand);
    in = x.shape[3], middle = w.depthwise.shape[0], out = y.shape[3];
    in_pixels = x.shape[0] * x.shape[1] * x.shape[2], out_pixels = x.shape[0] * y.shape[1] * y.shape[2];
    expand = {in_pixels, in, middle}, project = {out_pixels, middle, out};
    View wide = x, filtered = y;
    wide.shape[3] = filtered.shape[3] = middle;
    int64_t const k = w.depthwise.shape[2];
    Depthwise const d{{params.stride, params.stride}, {k / 2, k / 2}};
    depthwise = {x.shape[0], depthwise_args(wide, w.depthwise, filtered, nullptr, d)};
    channels[kExpand] = channels[kDepthwise] = middle, channels[kProject] = out;
    pieces[kExpand] = expand.pieces(), pieces[kDepthwise] = depthwise.pieces(), pieces[kProject] = project.pieces();

    bytes = 0;
    auto const take = [&]<class T>(T*& p, int64_t n) {
      p = workspace ? reinterpret_cast<T*>(workspace + bytes) : nullptr;
      bytes += (n * int64_t(sizeof(T)) + 63) / 64 * 64;
    };
    auto const packed = [](int64_t a, int64_t b) {  // of a 1x1 convolution; also of the transposed weights
      return std::max(conv2d_packed_size(a, b, 1), conv2d_packed_size(b, a, 1));
    };
    for (int l = first_layer(); l < kBottleneckLayers; ++l) {
      sums[l].channels = channels[l];
      take(sums[l].memory, NormSums::size(channels[l]) * pieces_of_sums(l, backward));
      take(tables[l], NormTables::size(channels[l]));
    }
    if (expands) take(expand_packed, packed(in, middle));
    take(depthwise_packed, depthwise.packed_size());
    take(project_packed, packed(middle, out));
    Context slots;
    slots.threads = threads;
    int64_t most = 0;
    auto const need = [&](int layer, int64_t each) { most = std::max(most, each * norm_slots(slots, pieces[layer])); };
    if (!backward) {
      if (expands) need(kExpand, expand.forward_scratch(false));
      need(kDepthwise, depthwise.forward_scratch(expands));
      need(kProject, project.forward_scratch(true));
    } else {
      take(mirrored, depthwise.packed_size());
      take(transposed, (expands ? std::max(in, out) : out) * middle);
      take(weight_sums, std::max({expands ? pieces[kExpand] * middle * in : 0,
                                  pieces[kDepthwise] * depthwise.packed_size(), pieces[kProject] * out * middle}));
      if (expands) take(gradients[kExpand], in_pixels * middle);
      take(gradients[kDepthwise], out_pixels * middle);
      need(kProject, NormPass::size(out));  // the sums of the last norm
      need(kProject, project.backward_scratch());
      need(kDepthwise, depthwise.backward_scratch(expands));
      if (expands) need(kExpand, expand.backward_scratch());
    }
    take(scratch, most);
  }

  int first_layer() const { return expands ? kExpand : kDepthwise; }
  // Backward, the sums of a layer are made while the one behind it is differentiated.
  int64_t pieces_of_sums(int layer, bool backward) const {
    return !backward || layer == kProject ? pieces[layer] : pieces[layer + 1];
  }
  int64_t pixels(int layer) const { return layer == kExpand ? in_pixels : out_pixels; }
  NormTables norm(int layer, Activation activation) const { return {tables[layer], channels[layer], activation}; }

  // Where the means of a layer lie in the statistics; the variances follow at total().
  int64_t place(int layer) const {
    int64_t const first = expands ? middle : 0;
    return layer == kExpand ? 0 : layer == kDepthwise ? first : first + middle;
  }
  int64_t total() const { return place(kProject) + out; }
};

void pack(Plan const& p, BottleneckLayers const& w, BottleneckLayers const& biases) {
  if (p.expands) conv2d_pack(w.expand, biases.expand, floats(p.expand_packed, conv2d_packed_size(p.middle, p.in, 1)));
  depthwise_pack(w.depthwise, biases.depthwise, floats(p.depthwise_packed, p.depthwise.packed_size()));
  conv2d_pack(w.project, biases.project, floats(p.project_packed, conv2d_packed_size(p.out, p.middle, 1)));
}

// weight [out, in] of a 1x1 convolution, packed for the gradient of what it reads.
void pack_transposed(Plan const& p, View weight, float* packed) {
  int64_t const out = weight.shape[0], in = weight.shape[1];
  for (int64_t o = 0; o < out; ++o)
    for (int64_t c = 0; c < in; ++c) p.transposed[c * out + o] = weight.as<float>()[o * in + c];
  View const turned{p.transposed, DType::f32, Device::cpu, 4, {in, out, 1, 1}};
  conv2d_pack(turned, {}, floats(packed, conv2d_packed_size(in, out, 1)));
}

}  // namespace

int64_t inverted_bottleneck_norm_workspace_cpu(View x, BottleneckLayers const& weights, View y,
                                               InvertedBottleneckNorm const& params, Context const& context,
                                               bool backward) {
  return Plan(x, weights, y, params, context.threads, backward).bytes;
}

void inverted_bottleneck_norm_cpu(View x, BottleneckLayers const& w, BottleneckLayers const& biases,
                                  BottleneckNorms const& norms, View y, BottleneckLayers const& z, View statistics,
                                  View workspace, InvertedBottleneckNorm const& params, Context const& context) {
  Plan const p(x, w, y, params, context.threads, false, workspace.as<char>());
  pack(p, w, biases);
  float *const mean = statistics.as<float>(), *const variance = mean + p.total();
  // The statistics of a layer from its sums, and its tables from them.
  auto const settle = [&](int l, Activation activation) {
    merge_statistics(p.sums[l], p.pieces[l]);
    float *const m = mean + p.place(l), *const v = variance + p.place(l);
    for (int64_t c = 0; c < p.channels[l]; ++c) {
      m[c] = float(p.sums[l].first()[c]);
      v[c] = float(p.sums[l].second()[c] / double(p.pixels(l)));
    }
    NormTables tables = p.norm(l, activation);
    tables.set(m, v, norms.weight[l], norms.bias[l], params.eps);
    return tables;
  };
  float const* input = x.as<float>();
  NormTables const *before = nullptr, after_expand = [&] {
    if (!p.expands) return NormTables(nullptr, 0, Activation::none);
    p.expand.forward(input, nullptr, p.expand_packed, z.expand.as<float>(), p.sums[kExpand], p.scratch, context);
    return settle(kExpand, params.activation);
  }();
  if (p.expands) input = z.expand.as<float>(), before = &after_expand;
  p.depthwise.forward(input, before, p.depthwise_packed, z.depthwise.as<float>(), p.sums[kDepthwise], p.scratch,
                      context);
  NormTables const after_depthwise = settle(kDepthwise, params.activation);
  p.project.forward(z.depthwise.as<float>(), &after_depthwise, p.project_packed, z.project.as<float>(),
                    p.sums[kProject], p.scratch, context);
  NormTables const last = settle(kProject, Activation::none);
  float const *const from = z.project.as<float>(), *const added = params.residual ? x.as<float>() : nullptr;
  parallel_for(context, 0, p.out_pixels, 1 + 32768 / p.out, [&](int64_t begin, int64_t end) {
    int64_t const step = 1 + 4096 / p.out;
    for (int64_t i = begin; i < end; i += step) {
      int64_t const n = std::min(step, end - i);
      float* const to = y.as<float>() + i * p.out;
      last.apply(from + i * p.out, n, to);
      for (int64_t j = 0; added && j < n * p.out; ++j) to[j] += added[i * p.out + j];
    }
  });
}

void inverted_bottleneck_norm_backward_cpu(View gradient, View x, BottleneckLayers const& w,
                                           BottleneckNorms const& norms, BottleneckLayers const& z, View statistics,
                                           View x_gradient, BottleneckLayers const& weight_gradients,
                                           View norm_gradients, View workspace, InvertedBottleneckNorm const& params,
                                           Context const& context) {
  Plan const p(x, w, gradient, params, context.threads, true, workspace.as<char>());
  depthwise_pack(w.depthwise, {}, floats(p.depthwise_packed, p.depthwise.packed_size()));
  float const *const mean = statistics.as<float>(), *const variance = mean + p.total();
  auto const tables = [&](int l, Activation activation) {
    NormTables t = p.norm(l, activation);
    t.set(mean + p.place(l), variance + p.place(l), norms.weight[l], norms.bias[l], params.eps);
    return t;
  };
  // From the sums of a layer to the gradients of its norm, and to what that of z takes from them.
  auto const settle = [&](int l, NormTables& t) {
    NormSums const& sums = p.sums[l];
    merge_gradients(sums, p.pieces_of_sums(l, true));
    float* const to = norm_gradients.as<float>() + p.place(l);
    float const* const v = variance + p.place(l);
    for (int64_t c = 0; c < p.channels[l]; ++c) {
      to[c] = float(sums.second()[c] / std::sqrt(v[c] + params.eps));
      to[p.total() + c] = float(sums.first()[c]);
    }
    t.set_gradient(sums.first(), sums.second(), v, params.eps, p.pixels(l));
  };
  auto const add_up = [&](int64_t pieces, int64_t size) {
    parallel_for(context, 0, size, 16384, [&](int64_t begin, int64_t end) {
      for (int64_t i = 1; i < pieces; ++i)
        for (int64_t j = begin; j < end; ++j) p.weight_sums[j] += p.weight_sums[i * size + j];
    });
  };
  auto const put = [&](View to) { std::copy_n(p.weight_sums, to.numel(), to.as<float>()); };
  float const *const from = gradient.as<float>(), *const residual = params.residual ? from : nullptr;
  float* const to = x_gradient.as<float>();

  NormTables last = tables(kProject, Activation::none), after_depthwise = tables(kDepthwise, params.activation);
  each_norm_piece(context, p.pieces[kProject], [&](int64_t piece, int64_t slot) {
    NormPass const pass{p.scratch + slot * NormPass::size(p.out)};
    NormSums const own = p.sums[kProject].piece(piece);
    own.clear();
    int64_t const begin = piece * p.out_pixels / p.pieces[kProject],
                  end = (piece + 1) * p.out_pixels / p.pieces[kProject];
    pass.gradients(last, from + begin * p.out, z.project.as<float>() + begin * p.out, end - begin, own);
  });
  settle(kProject, last);

  pack_transposed(p, w.project, p.project_packed);
  p.project.backward(from, z.project.as<float>(), last, z.depthwise.as<float>(), &after_depthwise, p.project_packed,
                     nullptr, p.gradients[kDepthwise], p.weight_sums, p.sums[kDepthwise], p.scratch, context);
  add_up(p.pieces[kProject], p.out * p.middle), put(weight_gradients.project);
  settle(kDepthwise, after_depthwise);

  bool const mirrors = depthwise_mirrors(p.depthwise.shape);
  int64_t const taps = w.depthwise.shape[2] * w.depthwise.shape[3];
  if (mirrors) depthwise_mirror(p.depthwise_packed, p.mirrored, taps, p.depthwise.shape.padded);
  NormTables after_expand = p.expands ? tables(kExpand, params.activation) : NormTables(nullptr, 0, Activation::none);
  p.depthwise.backward(p.gradients[kDepthwise], z.depthwise.as<float>(), after_depthwise,
                       p.expands ? z.expand.as<float>() : x.as<float>(), p.expands ? &after_expand : nullptr,
                       p.depthwise_packed, mirrors ? p.mirrored : nullptr, p.expands ? nullptr : residual,
                       p.expands ? p.gradients[kExpand] : to, p.weight_sums, p.sums[kExpand], p.scratch, context);
  add_up(p.pieces[kDepthwise], p.depthwise.packed_size());
  int64_t const n = lanes();
  for (int64_t c = 0; c < p.middle; ++c)
    for (int64_t t = 0; t < taps; ++t)
      weight_gradients.depthwise.as<float>()[c * taps + t] = p.weight_sums[(c / n * taps + t) * n + c % n];
  if (!p.expands) return;

  settle(kExpand, after_expand);
  pack_transposed(p, w.expand, p.expand_packed);
  p.expand.backward(p.gradients[kExpand], z.expand.as<float>(), after_expand, x.as<float>(), nullptr, p.expand_packed,
                    residual, to, p.weight_sums, p.sums[kExpand], p.scratch, context);
  add_up(p.pieces[kExpand], p.middle * p.in), put(weight_gradients.expand);
}

}  // namespace leyolo

// The block against its layers one by one; every buffer is exactly as large as what is read and written, and workspaces
// hold NaN before.
#include <cmath>
#include <cstring>

#include "check.h"
#include "ops/batch_norm_act/batch_norm_act.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/inverted_bottleneck_norm/inverted_bottleneck_norm.h"
#include "tensor.h"

using namespace leyolo;

namespace {

constexpr double kEps = 1e-3;

struct Shape {
  int64_t images, h, w, c, m, o, k, stride;
  bool expand = true;
};

Array nans(DType dtype, int64_t n) {
  Array a(dtype, {n});
  std::memset(a.data<char>(), 0xff, size_t(n * size_of(dtype)));
  return a;
}

// A convolution and its norm, what comes out of both, and the gradients.
struct Layer {
  Array weight, bias, scale, shift, z, y, mean, variance, z_gradient, weight_gradient, scale_gradient, shift_gradient;
  int64_t channels;

  Layer(int64_t out, int64_t in, int64_t k, int64_t images, int64_t h, int64_t w, unsigned seed)
      : weight(random_array({out, in, k, k}, -1, 1, seed)),
        bias(random_array({out}, -1, 1, seed + 1)),
        scale(random_array({out}, 0.5, 1.5, seed + 2)),
        shift(random_array({out}, -1, 1, seed + 3)),
        z(DType::f32, {images, h, w, out}),
        y(DType::f32, {images, h, w, out}),
        mean(DType::f32, {out}),
        variance(DType::f32, {out}),
        z_gradient(DType::f32, {images, h, w, out}),
        weight_gradient(DType::f32, {out, in, k, k}),
        scale_gradient(DType::f32, {out}),
        shift_gradient(DType::f32, {out}),
        channels(out) {}

  void convolve(Array const& x) {
    Array packed(DType::f32, {conv2d_packed_size(channels, weight.view.shape[1], 1)});
    conv2d_pack(weight.view, bias.view, packed.view);
    conv2d(x.view, packed.view, View(), z.view, View(), 1, {}, test_context());
  }
  void filter(Array const& x, Depthwise const& params) {
    Array scratch = nans(DType::u8, depthwise_conv2d_workspace(x.view, weight.view, z.view));
    depthwise_conv2d(x.view, weight.view, bias.view, z.view, scratch.view, params, test_context());
  }
  void normalise(Activation activation) {
    Array scratch = nans(DType::u8, batch_norm_act_workspace(z.view));
    batch_norm_act(z.view, scale.view, shift.view, mean.view, variance.view, y.view, scratch.view,
                   {kEps, activation, true}, test_context());
  }
  void differentiate_norm(Array const& gradient, Activation activation) {
    Array scratch = nans(DType::u8, batch_norm_act_backward_workspace(z.view));
    batch_norm_act_backward(gradient.view, z.view, scale.view, shift.view, mean.view, variance.view, z_gradient.view,
                            scale_gradient.view, shift_gradient.view, scratch.view, {kEps, activation, true},
                            test_context());
  }
  // The gradient of what a 1x1 convolution reads.
  Array differentiate_pointwise(Array& x) {
    int64_t const in = weight.view.shape[1], pixels = z.view.numel() / channels;
    Array to(DType::f32, {x.view.shape[0], x.view.shape[1], x.view.shape[2], in});
    for (int64_t c = 0; c < in; ++c)
      for (int64_t o = 0; o < channels; ++o) {
        double sum = 0;
        for (int64_t p = 0; p < pixels; ++p) sum += double(z_gradient.data()[p * channels + o]) * x.data()[p * in + c];
        weight_gradient.data()[o * in + c] = float(sum);
      }
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < in; ++c) {
        double sum = 0;
        for (int64_t o = 0; o < channels; ++o)
          sum += double(z_gradient.data()[p * channels + o]) * weight.data()[o * in + c];
        to.data()[p * in + c] = float(sum);
      }
    return to;
  }
};

void add(Array& to, Array& x) {
  for (int64_t i = 0; i < to.view.numel(); ++i) to.data()[i] += x.data()[i];
}

void compare(Shape s, Activation activation, int threads) {
  int64_t const oh = conv_output_size(s.h, s.k, s.stride, s.k / 2), ow = conv_output_size(s.w, s.k, s.stride, s.k / 2);
  bool const residual = s.stride == 1 && s.c == s.o && s.k % 2 == 1;
  Array x = random_array({s.images, s.h, s.w, s.c}, -1, 2, 1), g = random_array({s.images, oh, ow, s.o}, -1, 1, 2);
  Layer expand(s.m, s.c, 1, s.images, s.h, s.w, 10), depthwise(s.m, 1, s.k, s.images, oh, ow, 20),
      project(s.o, s.m, 1, s.images, oh, ow, 30);
  Depthwise const params{{s.stride, s.stride}, {s.k / 2, s.k / 2}};

  // Layer by layer.
  if (s.expand) expand.convolve(x), expand.normalise(activation);
  Array& filtered = s.expand ? expand.y : x;
  depthwise.filter(filtered, params), depthwise.normalise(activation);
  project.convolve(depthwise.y), project.normalise(Activation::none);
  project.differentiate_norm(g, Activation::none);
  Array d = project.differentiate_pointwise(depthwise.y);
  depthwise.differentiate_norm(d, activation);
  Array e(DType::f32, {s.images, s.h, s.w, s.m});
  {
    Array scratch =
        nans(DType::u8, depthwise_conv2d_backward_workspace(filtered.view, depthwise.weight.view, d.view, params));
    depthwise_conv2d_backward(depthwise.z_gradient.view, filtered.view, depthwise.weight.view, View(), e.view,
                              depthwise.weight_gradient.view, View(), scratch.view, params, test_context());
  }
  Array x_gradient = [&] {
    if (!s.expand) return std::move(e);
    expand.differentiate_norm(e, activation);
    return expand.differentiate_pointwise(x);
  }();
  if (residual) add(project.y, x), add(x_gradient, g);

  // As one.
  Context context = test_context();
  context.threads = threads;
  InvertedBottleneckNorm const options{s.stride, activation, residual, kEps};
  auto const at = [&](View v) { return s.expand ? v : View(); };
  BottleneckLayers const w{at(expand.weight.view), depthwise.weight.view, project.weight.view};
  BottleneckNorms const norms{{at(expand.scale.view), depthwise.scale.view, project.scale.view},
                              {at(expand.shift.view), depthwise.shift.view, project.shift.view}};
  int64_t const total = (s.expand ? 2 : 1) * s.m + s.o;
  Array y(DType::f32, {s.images, oh, ow, s.o}), z1(DType::f32, {s.images, s.h, s.w, s.m}),
      z2(DType::f32, {s.images, oh, ow, s.m}), z3(DType::f32, {s.images, oh, ow, s.o}),
      statistics(DType::f32, {2, total}), gx(DType::f32, {s.images, s.h, s.w, s.c}), ge(DType::f32, {s.m, s.c, 1, 1}),
      gd(DType::f32, {s.m, 1, s.k, s.k}), gp(DType::f32, {s.o, s.m, 1, 1}), gn(DType::f32, {2, total});
  BottleneckLayers const z{at(z1.view), z2.view, z3.view};
  Array forward = nans(DType::u8, inverted_bottleneck_norm_workspace(x.view, w, y.view, options, context, false)),
        backward = nans(DType::u8, inverted_bottleneck_norm_workspace(x.view, w, y.view, options, context, true));
  inverted_bottleneck_norm(x.view, w, {at(expand.bias.view), depthwise.bias.view, project.bias.view}, norms, y.view, z,
                           statistics.view, forward.view, options, context);
  inverted_bottleneck_norm_backward(g.view, x.view, w, norms, z, statistics.view, gx.view,
                                    {at(ge.view), gd.view, gp.view}, gn.view, backward.view, options, context);

  constexpr double kBound = 2e-5;
  CHECK_NEAR(difference(project.y, y), 0, kBound);
  CHECK_NEAR(difference(depthwise.z, z2), 0, kBound);
  CHECK_NEAR(difference(project.z, z3), 0, kBound);
  CHECK_NEAR(difference(x_gradient, gx), 0, kBound);
  CHECK_NEAR(difference(depthwise.weight_gradient, gd), 0, kBound);
  CHECK_NEAR(difference(project.weight_gradient, gp), 0, kBound);
  if (s.expand) {
    CHECK_NEAR(difference(expand.z, z1), 0, kBound);
    CHECK_NEAR(difference(expand.weight_gradient, ge), 0, kBound);
  }
  int64_t place = 0;
  for (Layer* layer : {&expand, &depthwise, &project}) {
    if (layer == &expand && !s.expand) continue;
    for (int64_t c = 0; c < layer->channels; ++c, ++place) {
      CHECK_NEAR(statistics.data()[place], layer->mean.data()[c], kBound * 10);
      CHECK_NEAR(statistics.data()[total + place] / layer->variance.data()[c], 1, kBound);
      double const scale = std::fabs(layer->scale_gradient.data()[c]),
                   shift = std::fabs(layer->shift_gradient.data()[c]);
      CHECK_NEAR(gn.data()[place], layer->scale_gradient.data()[c], kBound * std::max(10.0, scale));
      CHECK_NEAR(gn.data()[total + place], layer->shift_gradient.data()[c], kBound * std::max(10.0, shift));
    }
  }
}

}  // namespace

TEST(inverted_bottleneck_norm_is_its_layers) {
  Shape const shapes[] = {
      {2, 12, 14, 16, 48, 24, 3, 2},         // LeYOLO's kinds
      {2, 9, 11, 8, 24, 8, 5, 1},            //
      {1, 10, 9, 24, 24, 16, 3, 1, false},   //
      {3, 7, 5, 5, 13, 7, 5, 2},             // tails of vectors
      {1, 8, 8, 3, 5, 4, 4, 1},              // an even kernel
      {1, 5, 9, 6, 10, 4, 1, 2},             // rows that no output reads
      {34, 3, 2, 8, 16, 8, 3, 1},            // more images than pieces
      {1, 33, 6, 4, 8, 4, 3, 1},             // bands of an image
      {1, 2, 1, 4, 8, 4, 3, 1},              //
      {2, 6, 6, 130, 130, 20, 3, 2, false},  // more channels than a period
      {1, 20, 21, 4, 8, 255, 3, 1},          // sums of more channels at the end than in the middle
      {1, 14, 14, 2, 1, 129, 3, 1},          //
  };
  for (Shape const& s : shapes)
    for (int threads : {1, 3}) compare(s, Activation::silu, threads);
}

TEST(inverted_bottleneck_norm_takes_every_activation) {
  for (Activation a : {Activation::none, Activation::relu, Activation::relu6, Activation::hardswish})
    compare({2, 8, 9, 8, 20, 8, 3, 1}, a, 2);
}

// A block in training: both devices in float32; float16 and bfloat16 against float32 of the same values. Workspaces
// hold NaN before.
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "core/conv_size.h"
#include "half_array.h"
#include "on_cuda.h"
#include "ops/inverted_bottleneck_norm/inverted_bottleneck_norm.h"
#include "tensor.h"

using namespace leyolo;

namespace {

struct Shape {
  int64_t images, h, w, c, m, o, k, stride;
  bool expand = true;
};

// What the op gets, and what comes out of it: y, the z, the statistics, then the gradients.
struct Run {
  std::vector<Array> maps, norms;  // x, gradient of y, weights and biases of the convolutions; those of the norms
  std::vector<Array> results;
};

std::vector<Array> results_of(Shape s, DType type) {
  int64_t const oh = conv_output_size(s.h, s.k, s.stride, s.k / 2), ow = conv_output_size(s.w, s.k, s.stride, s.k / 2);
  int64_t const total = (s.expand ? 2 : 1) * s.m + s.o;
  std::vector<Array> r;
  r.emplace_back(type, std::initializer_list<int64_t>{s.images, oh, ow, s.o});
  r.emplace_back(type, std::initializer_list<int64_t>{s.images, s.h, s.w, s.m});
  r.emplace_back(type, std::initializer_list<int64_t>{s.images, oh, ow, s.m});
  r.emplace_back(type, std::initializer_list<int64_t>{s.images, oh, ow, s.o});
  r.emplace_back(DType::f32, std::initializer_list<int64_t>{2, total});
  r.emplace_back(type, std::initializer_list<int64_t>{s.images, s.h, s.w, s.c});
  r.emplace_back(type, std::initializer_list<int64_t>{s.m, s.c, 1, 1});
  r.emplace_back(type, std::initializer_list<int64_t>{s.m, 1, s.k, s.k});
  r.emplace_back(type, std::initializer_list<int64_t>{s.o, s.m, 1, 1});
  r.emplace_back(DType::f32, std::initializer_list<int64_t>{2, total});
  return r;
}

std::vector<Array> run(Shape s, Activation activation, std::vector<Array>& in, std::vector<Array>& norms, bool cuda) {
  std::vector<Array> r = results_of(s, in[0].view.dtype);
  auto const at = [&](Array const& a) { return cuda ? on_cuda(a) : a.view; };
  auto const expansion = [&](Array const& a) { return s.expand ? at(a) : View(); };
  bool const residual = s.stride == 1 && s.c == s.o && s.k % 2 == 1;
  InvertedBottleneckNorm const params{s.stride, activation, residual, 1e-3};
  BottleneckLayers const w{expansion(in[2]), at(in[3]), at(in[4])}, b{expansion(in[5]), at(in[6]), at(in[7])},
      z{expansion(r[1]), at(r[2]), at(r[3])}, gradients{expansion(r[6]), at(r[7]), at(r[8])};
  BottleneckNorms const n{{expansion(norms[0]), at(norms[1]), at(norms[2])},
                          {expansion(norms[3]), at(norms[4]), View()}};
  Context const context = test_context();
  for (bool backward : {false, true}) {
    Array scratch(DType::u8, {inverted_bottleneck_norm_workspace(at(in[0]), w, at(r[0]), params, context, backward)});
    std::memset(scratch.data<char>(), 0xff, size_t(scratch.view.numel()));
    if (backward)
      inverted_bottleneck_norm_backward(at(in[1]), at(in[0]), w, n, z, at(r[4]), at(r[5]), gradients, at(r[9]),
                                        at(scratch), params, context);
    else
      inverted_bottleneck_norm(at(in[0]), w, b, n, at(r[0]), z, at(r[4]), at(scratch), params, context);
  }
  return r;
}

// The largest difference as a share of the largest value.
double apart(Array& a, Array& b) {
  double most = 0, worst = 0;
  for (int64_t i = 0; i < a.view.numel(); ++i) {
    double const d = std::abs(double(value_at(a, i)) - double(value_at(b, i)));
    most = std::max(most, std::abs(double(value_at(a, i)))), worst = std::isnan(d) ? d : std::max(worst, d);
  }
  return most > 0 ? worst / most : worst;
}

void compare(Shape s, Activation activation, DType type = DType::f32) {
  int64_t const oh = conv_output_size(s.h, s.k, s.stride, s.k / 2), ow = conv_output_size(s.w, s.k, s.stride, s.k / 2);
  std::vector<Array> in, norms;
  in.push_back(random_array({s.images, s.h, s.w, s.c}, -1, 2, 1));
  in.push_back(random_array({s.images, oh, ow, s.o}, -1, 1, 2));
  float const of_in = 2 / std::sqrt(float(s.c)), of_middle = 2 / std::sqrt(float(s.m));
  in.push_back(random_array({s.m, s.c, 1, 1}, -of_in, of_in, 3));
  in.push_back(random_array({s.m, 1, s.k, s.k}, -0.5, 1, 4));
  in.push_back(random_array({s.o, s.m, 1, 1}, -of_middle, of_middle, 5));
  in.push_back(random_array({s.m}, -1, 1, 6)), in.push_back(random_array({s.m}, -1, 1, 7));
  in.push_back(random_array({s.o}, -1, 1, 8));
  for (unsigned i = 0; i < 5; ++i)
    norms.push_back(random_array({i == 2 ? s.o : s.m}, i < 3 ? 0.5f : -1.0f, i < 3 ? 1.5f : 1.0f, 10 + i));
  std::vector<Array> theirs, as_floats;
  for (Array& a : in) theirs.push_back(in_type(a, type));
  for (Array& a : theirs) {
    Array back(DType::f32, {a.view.numel()});
    back.view.rank = a.view.rank;
    for (int d = 0; d < a.view.rank; ++d) back.view.shape[d] = a.view.shape[d];
    for (int64_t i = 0; i < a.view.numel(); ++i) back.data()[i] = value_at(a, i);
    as_floats.push_back(std::move(back));
  }
  std::vector<Array> expected = run(s, activation, as_floats, norms, false),
                     found = run(s, activation, theirs, norms, true);
  for (size_t i = 0; i < found.size(); ++i) {
    if (!s.expand && (i == 1 || i == 6)) continue;
    // Roundings of z and of the gradients between the layers add up: some units of the type.
    double const bound = type == DType::f32 ? 2e-5 : (i < 5 ? 4 : 16) * epsilon_of(type);
    CHECK_NEAR(apart(expected[i], found[i]), 0, bound);
  }
}

}  // namespace

// Channels below, at and above a tile, odd ones, whole vectors; pixels below and above a tile; every window.
TEST(inverted_bottleneck_norm_is_the_same_on_both_devices) {
  compare({2, 9, 8, 16, 40, 16, 3, 1}, Activation::silu);
  compare({1, 7, 9, 5, 13, 7, 5, 2}, Activation::silu);
  if (kFewCases) return;
  compare({2, 16, 12, 24, 72, 80, 5, 1}, Activation::silu);
  compare({1, 20, 21, 64, 130, 64, 3, 1}, Activation::silu);
  compare({2, 11, 10, 8, 8, 8, 3, 1, false}, Activation::silu);
  compare({2, 12, 12, 16, 16, 24, 3, 2, false}, Activation::relu6);
  compare({1, 6, 5, 3, 6, 3, 4, 1}, Activation::hardswish);
  compare({3, 5, 7, 4, 10, 6, 7, 2}, Activation::relu);
  compare({2, 5, 6, 4, 10, 6, 1, 1}, Activation::none);
  compare({1, 1, 2, 8, 16, 8, 3, 1}, Activation::silu);
}

TEST(inverted_bottleneck_norm_in_half_precision) {
  for (DType type : {DType::f16, DType::bf16}) {
    compare({2, 10, 9, 16, 48, 16, 3, 1}, Activation::silu, type);
    if (kFewCases) continue;
    compare({1, 13, 14, 24, 72, 40, 5, 2}, Activation::silu, type);
    compare({1, 9, 7, 5, 13, 7, 3, 1}, Activation::relu, type);
    compare({2, 8, 9, 64, 64, 72, 5, 1, false}, Activation::silu, type);
  }
}

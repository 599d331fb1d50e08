#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "check.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/inverted_bottleneck/inverted_bottleneck.h"
#include "tensor.h"

using namespace leyolo;

namespace {

struct Shape {
  int64_t h, w, c, m, o, k, stride;
  bool expand = true;
  int64_t images = 1;
};

struct Tensors {
  Array x, ew, eb, dw, db, pw, pb, y;
  bool expand;
  InvertedBottleneck params;

  explicit Tensors(Shape s)
      : x(random_array({s.images, s.h, s.w, s.c}, -1, 1, 1)),
        ew(random_array({s.m, s.c, 1, 1}, -1, 1, 2)),
        eb(random_array({s.m}, -1, 1, 3)),
        dw(random_array({s.m, 1, s.k, s.k}, -1, 1, 4)),
        db(random_array({s.m}, -1, 1, 5)),
        pw(random_array({s.o, s.m, 1, 1}, -1, 1, 6)),
        pb(random_array({s.o}, -1, 1, 7)),
        y(DType::f32, {s.images, conv_output_size(s.h, s.k, s.stride, s.k / 2),
                       conv_output_size(s.w, s.k, s.stride, s.k / 2), s.o}),
        expand(s.expand) {
    params.stride = s.stride;
    params.residual = s.stride == 1 && s.o == s.c;
  }
  View expand_weight() const { return expand ? ew.view : View(); }
  int64_t workspace_size(Context const& context) const {
    return inverted_bottleneck_workspace(x.view, expand_weight(), dw.view, pw.view, y.view, params, context);
  }
  int64_t band(Context const& context) const {
    return inverted_bottleneck_band(x.view, expand_weight(), dw.view, pw.view, y.view, params, context);
  }
  void run(View workspace, Context const& context) const {
    inverted_bottleneck(x.view, expand_weight(), expand ? eb.view : View(), dw.view, db.view, pw.view, pb.view, y.view,
                        workspace, params, context);
  }
  // With exactly the workspace that was asked for: the sanitizer sees the first byte behind it.
  void run(double share, Context const& context) {
    params.model.share = share;
    std::memset(y.data(), 0xff, size_t(4 * y.view.numel()));
    Array workspace(DType::u8, {workspace_size(context)});
    std::memset(workspace.data<char>(), 0xff, size_t(workspace.view.numel()));
    run(workspace.view, context);
  }
};

constexpr double kStreamed = 0, kStaged = std::numeric_limits<double>::infinity();

// Pretends to have any number of threads: each piece in turn.
void one_by_one(int64_t begin, int64_t end, int64_t grain, Body body, void* state) {
  for (int64_t i = begin; i < end; i += grain) body(i, std::min(i + grain, end), state);
}

}  // namespace

TEST(inverted_bottleneck_is_its_three_convolutions) {
  for (int64_t stride : {1, 2})
    for (double share : {kStaged, kStreamed}) {
      int64_t const h = 29, w = 13, c = 24, m = 40, k = 5;
      Tensors t({h, w, c, m, stride == 1 ? c : 17, k, stride});
      t.run(share, test_context());

      int64_t const oh = t.y.view.shape[1], ow = t.y.view.shape[2], o = t.y.view.shape[3];
      Array expected(DType::f32, {1, oh, ow, o}), wide(DType::f32, {1, h, w, m}), filtered(DType::f32, {1, oh, ow, m});
      Array expand(DType::f32, {conv2d_packed_size(m, c, 1)}), project(DType::f32, {conv2d_packed_size(o, m, 1)});
      conv2d_pack(t.ew.view, t.eb.view, expand.view);
      conv2d_pack(t.pw.view, t.pb.view, project.view);
      conv2d(t.x.view, expand.view, View(), wide.view, View(), 1, {1, 0, Activation::silu}, test_context());
      Array scratch(DType::u8, {depthwise_conv2d_workspace(wide.view, t.dw.view, filtered.view)});
      depthwise_conv2d(wide.view, t.dw.view, t.db.view, filtered.view, scratch.view,
                       {{stride, stride}, {k / 2, k / 2}, {1, 1}, Activation::silu}, test_context());
      conv2d(filtered.view, project.view, stride == 1 ? t.x.view : View(), expected.view, View(), 1, {},
             test_context());
      for (int64_t i = 0; i < t.y.view.numel(); ++i) CHECK(t.y.data()[i] == expected.data()[i]);
    }
}

TEST(inverted_bottleneck_row_by_row_gives_the_same_bits) {
  Shape const shapes[] = {
      {40, 40, 16, 96, 32, 3, 2},         // every kind that LeYOLO has: with expansion ...
      {20, 20, 64, 192, 64, 5, 1},        //
      {20, 20, 32, 96, 64, 5, 2},         //
      {40, 40, 16, 16, 16, 3, 2, false},  // ... and without
      {33, 31, 12, 12, 20, 5, 1, false},  // odd sizes, a part of a vector
      {33, 30, 24, 40, 24, 3, 1},         //
      {1, 1, 8, 24, 8, 5, 1},             // one pixel
      {2, 7, 8, 24, 8, 5, 2},             // fewer rows than the kernel
      {97, 3, 8, 24, 8, 5, 1},            // many times as high as the window
      {64, 5, 8, 24, 12, 3, 3},           // a stride as large as the kernel ...
      {64, 5, 8, 24, 12, 1, 2},           // ... and larger: rows that nobody reads
      {17, 9, 8, 24, 8, 3, 1, true, 3},   // images
  };
  for (Shape const& shape : shapes) {
    Tensors t(shape);
    t.run(kStaged, test_context());
    CHECK(t.band(test_context()) == 0);
    std::vector<float> const expected(t.y.data(), t.y.data() + t.y.view.numel());
    for (int threads : {1, 2, 3, 7, 100}) {
      Context context{one_by_one, threads};
      t.run(kStreamed, context);
      CHECK(t.band(context) > 0);
      CHECK(std::memcmp(t.y.data(), expected.data(), 4 * expected.size()) == 0);
    }
    t.run(kStreamed, test_context());
    CHECK(std::memcmp(t.y.data(), expected.data(), 4 * expected.size()) == 0);
  }
}

TEST(inverted_bottleneck_row_by_row_takes_half_precision) {
  Tensors t({40, 20, 16, 32, 16, 3, 1});
  for (Array* a : {&t.x, &t.ew, &t.eb, &t.dw, &t.db, &t.pw, &t.pb, &t.y}) a->view.dtype = DType::bf16;
  std::vector<char> expected;
  for (double share : {kStaged, kStreamed}) {
    t.run(share, test_context());
    char const* const bytes = t.y.data<char>();
    std::vector<char> const got(bytes, bytes + 2 * t.y.view.numel());
    CHECK(expected.empty() || got == expected);
    expected = got;
  }
}

TEST(inverted_bottleneck_is_streamed_where_its_maps_leave_the_cache) {
  Context const one{one_by_one, 1};
  auto const band = [&](Shape shape, int64_t cache_bytes, Context const& context) {
    Tensors t(shape);
    t.params.model.cache_bytes = cache_bytes;
    return t.band(context);
  };
  Shape const shape{80, 80, 32, 96, 32, 3, 1};
  int64_t const map = 4 * 80 * 80 * 96;  // of both maps
  CHECK(band(shape, map * 2 / 3 + 1, one) == 0);
  CHECK(band(shape, map * 2 / 3 - 1, one) == 8);
  CHECK(band(shape, 800 << 10, one) == 4);  // windows of 2 x (10 + 8) rows of 30 KiB do not fit
  CHECK(band(shape, 100 << 10, one) == 0);  // not even windows for one row fit
  // The larger map counts: with stride 2 the expanded one, without expansion the filtered one.
  Shape const halved{80, 80, 32, 96, 32, 3, 2}, narrow{80, 80, 96, 96, 32, 3, 1, false};
  CHECK(band(halved, map * 2 / 3 - 1, one) == 4);
  CHECK(band(narrow, map * 2 / 3 - 1, one) == 8);
  CHECK(band({80, 80, 96, 96, 32, 3, 2, false}, map * 2 / 3 - 1, one) == 0);
  // So many threads that they would expand a fifth of the rows twice; nothing is made twice without expansion.
  CHECK(band(shape, map * 2 / 3 - 1, {one_by_one, 9}) == 8);
  CHECK(band(shape, map * 2 / 3 - 1, {one_by_one, 10}) == 0);
  CHECK(band(narrow, map * 2 / 3 - 1, {one_by_one, 80}) == 8);
}

TEST(inverted_bottleneck_row_by_row_needs_no_maps) {
  Tensors t({160, 160, 16, 96, 32, 3, 2});
  t.params.model.share = kStaged;
  int64_t const staged = t.workspace_size({one_by_one, 1});
  t.params.model = {};
  t.params.model.cache_bytes = 1 << 20;
  int64_t const one = t.workspace_size({one_by_one, 1}), two = t.workspace_size({one_by_one, 2});
  CHECK(staged > 10 << 20);
  CHECK(one < (1 << 20) && two < 2 * one);
  Array workspace(DType::u8, {one - 1});
  CHECK_THROWS(t.run(workspace.view, {one_by_one, 1}));
}

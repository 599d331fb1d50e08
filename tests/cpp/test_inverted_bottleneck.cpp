#include <cmath>

#include "check.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/inverted_bottleneck/inverted_bottleneck.h"
#include "tensor.h"

using namespace leyolo;

TEST(inverted_bottleneck_is_its_three_convolutions) {
  for (int64_t stride : {1, 2}) {
    int64_t const h = 9, w = 13, c = 24, m = 40, k = 5, o = stride == 1 ? c : 17;
    int64_t const oh = conv_output_size(h, k, stride, k / 2), ow = conv_output_size(w, k, stride, k / 2);
    Array x = random_array({1, h, w, c}, -1, 1, 1), ew = random_array({m, c, 1, 1}, -1, 1, 2),
          eb = random_array({m}, -1, 1, 3), dw = random_array({m, 1, k, k}, -1, 1, 4), db = random_array({m}, -1, 1, 5),
          pw = random_array({o, m, 1, 1}, -1, 1, 6), pb = random_array({o}, -1, 1, 7);
    Array y(DType::f32, {1, oh, ow, o}), expected(DType::f32, {1, oh, ow, o}), wide(DType::f32, {1, h, w, m}),
        filtered(DType::f32, {1, oh, ow, m});
    Array workspace(DType::u8, {inverted_bottleneck_workspace(x.view, ew.view, dw.view, pw.view, y.view)});
    inverted_bottleneck(x.view, ew.view, eb.view, dw.view, db.view, pw.view, pb.view, y.view, workspace.view,
                        {stride, Activation::silu, stride == 1}, test_context());

    Array expand(DType::f32, {conv2d_packed_size(m, c, 1)}), project(DType::f32, {conv2d_packed_size(o, m, 1)});
    conv2d_pack(ew.view, eb.view, expand.view);
    conv2d_pack(pw.view, pb.view, project.view);
    conv2d(x.view, expand.view, View(), wide.view, View(), 1, {1, 0, Activation::silu}, test_context());
    Array scratch(DType::u8, {depthwise_conv2d_workspace(wide.view, dw.view, filtered.view)});
    depthwise_conv2d(wide.view, dw.view, db.view, filtered.view, scratch.view,
                     {{stride, stride}, {k / 2, k / 2}, {1, 1}, Activation::silu}, test_context());
    conv2d(filtered.view, project.view, stride == 1 ? x.view : View(), expected.view, View(), 1, {}, test_context());
    for (int64_t i = 0; i < y.view.numel(); ++i) CHECK(y.data()[i] == expected.data()[i]);
  }
}

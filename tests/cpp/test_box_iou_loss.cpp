#include "check.h"
#include "ops/box_iou_loss/box_iou_loss.h"
#include "tensor.h"

using namespace leyolo;

TEST(box_iou_loss_is_its_scalar_formula_in_every_tail) {
  for (int64_t n : {1, 15, 16, 17, 255, 257, 5000}) {
    Array a = random_array({n, 4}, 1, 50, 1), b = random_array({n, 4}, 1, 50, 2), g = random_array({n}, -1, 1, 3);
    for (Array* boxes : {&a, &b})
      for (int64_t i = 0; i < n; ++i)
        for (int d : {0, 1}) boxes->data()[4 * i + 2 + d] += boxes->data()[4 * i + d];
    Array out(DType::f32, {n}), ga(DType::f32, {n, 4}), gb(DType::f32, {n, 4});
    box_iou_loss(a.view, b.view, out.view, BoxIou::complete, 1e-7, test_context());
    box_iou_loss_backward(g.view, a.view, b.view, ga.view, gb.view, BoxIou::complete, 1e-7, test_context());
    IouPair<BoxIou::complete, true, float, float> pair;
    for (int64_t i = 0; i < n; ++i) {
      auto const one = iou_box<float>(a.data() + 4 * i, BoxFormat::xyxy, BoxIou::complete);
      auto const other = iou_box<float>(b.data() + 4 * i, BoxFormat::xyxy, BoxIou::complete);
      CHECK(out.data()[i] == 1 - pair.score(one, other, 1e-7f));
      float expected[4];
      iou_box_gradient(a.data() + 4 * i, BoxFormat::xyxy, BoxIou::complete,
                       pair.gradient(one, other, 1e-7f, -g.data()[i]), expected);
      for (int k = 0; k < 4; ++k) {
        CHECK(ga.data()[4 * i + k] == expected[k]);
        CHECK_NEAR(ga.data()[4 * i + k % 2] + ga.data()[4 * i + 2 + k % 2],
                   -double(gb.data()[4 * i + k % 2]) - gb.data()[4 * i + 2 + k % 2], 1e-4);
      }
    }
  }
}

TEST(box_iou_loss_rejects_what_does_not_fit) {
  Array a(DType::f32, {3, 4}), b(DType::f32, {2, 4}), out(DType::f32, {3});
  CHECK_THROWS(box_iou_loss(a.view, b.view, out.view, BoxIou::distance, 1e-7, test_context()));
  CHECK_THROWS(box_iou_loss(a.view, a.view, out.view, BoxIou::iou, 1e-7, test_context()));
}

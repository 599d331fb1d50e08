#include "check.h"
#include "ops/box_iou/box_iou.h"
#include "tensor.h"

using namespace leyolo;

TEST(box_iou_of_known_boxes) {
  Array a(DType::f32, {1, 1, 4}), b(DType::f32, {1, 2, 4}), out(DType::f32, {1, 1, 2});
  float const first[] = {0, 0, 2, 2}, others[] = {1, 1, 3, 3, 5, 5, 6, 6};
  std::copy_n(first, 4, a.data());
  std::copy_n(others, 8, b.data());
  box_iou(a.view, b.view, out.view, {}, test_context());
  CHECK_NEAR(out.data()[0], 1.0 / 7, 1e-7);
  CHECK(out.data()[1] == 0);
}

TEST(box_iou_rejects_wrong_shapes) {
  Array a(DType::f32, {1, 2, 3}), b(DType::f32, {1, 2, 4}), out(DType::f32, {1, 2, 2});
  CHECK_THROWS(box_iou(a.view, b.view, out.view, {}, test_context()));
}

#include "check.h"
#include "core/isa.h"
#include "ops/box_iou/box_iou.h"
#include "ops/box_iou/box_iou_tile.h"
#include "tensor.h"

namespace leyolo {
LEYOLO_SIMD(void box_iou_pairs(IouArgs<float> const&))
}

using namespace leyolo;

namespace {

// [batch, n, 4], corners in order.
Array boxes(int64_t batch, int64_t n, unsigned seed) {
  Array b = random_array({batch, n, 4}, 1, 50, seed);
  for (int64_t i = 0; i < batch * n; ++i)
    for (int d : {0, 1}) b.data()[4 * i + 2 + d] += b.data()[4 * i + d];
  return b;
}

}  // namespace

TEST(box_iou_of_known_boxes) {
  Array a(DType::f32, {1, 1, 4}), b(DType::f32, {1, 2, 4}), out(DType::f32, {1, 1, 2});
  float const first[] = {0, 0, 2, 2}, others[] = {1, 1, 3, 3, 5, 5, 6, 6};
  std::copy_n(first, 4, a.data());
  std::copy_n(others, 8, b.data());
  box_iou(a.view, b.view, out.view, {}, test_context());
  CHECK_NEAR(out.data()[0], 1.0 / 7, 1e-7);
  CHECK(out.data()[1] == 0);
}

// Heap arrays of exactly the right size let AddressSanitizer watch the edges of every tail.
TEST(box_iou_is_its_scalar_formula_in_every_tail) {
  for (int64_t n : {1, 63, 65})
    for (int64_t m : {1, 15, 16, 17, 250, 257, 300}) {
      Array a = boxes(2, n, 1), b = boxes(2, m, 2), out(DType::f32, {2, n, m});
      for (BoxFormat format : {BoxFormat::xyxy, BoxFormat::xywh, BoxFormat::cxcywh}) {
        box_iou(a.view, b.view, out.view, {BoxIou::complete, format, 1e-7}, test_context());
        IouPair<BoxIou::complete, false, float, float> pair;
        for (int64_t i = 0; i < 2 * n; ++i)
          for (int64_t j = 0; j < m; ++j) {
            auto const one = iou_box<float>(a.data() + 4 * i, format, BoxIou::complete);
            auto const other = iou_box<float>(b.data() + 4 * (i / n * m + j), format, BoxIou::complete);
            CHECK(out.data()[i * m + j] == pair.score(one, other, 1e-7f));
          }
      }
    }
}

// As for results that no cache holds, from every place that a row may begin at.
TEST(box_iou_past_the_caches_is_the_same) {
  int const rows = 3;
  Array one = boxes(1, rows, 1), others = boxes(1, kIouColumns, 2);
  IouBox<float> row[rows];
  for (int i = 0; i < rows; ++i) row[i] = iou_box<float>(one.data() + 4 * i, BoxFormat::xyxy, BoxIou::generalized);
  for (int columns : {1, 15, 16, 17, 200, kIouColumns}) {
    IouTile<float> tile;
    fill_tile(tile, others.data(), columns, BoxFormat::xyxy, BoxIou::generalized);
    for (int offset = 0; offset < 17; ++offset) {
      int const pitch = columns + 1;  // the value between the rows stays as it is
      Array plain(DType::f32, {rows * pitch}), past(DType::f32, {offset + rows * pitch});
      std::fill_n(plain.data(), plain.view.numel(), 7.0f);
      std::fill_n(past.data(), past.view.numel(), 7.0f);
      IouArgs<float> args{row, &tile,        rows,    columns, pitch,   BoxIou::generalized,
                          0,   plain.data(), nullptr, nullptr, nullptr, false};
      LEYOLO_PICK(box_iou_pairs)(args);
      args.out = past.data() + offset, args.past_caches = true;
      LEYOLO_PICK(box_iou_pairs)(args);
      for (int i = 0; i < offset; ++i) CHECK(past.data()[i] == 7);
      for (int i = 0; i < rows * pitch; ++i) CHECK(past.data()[offset + i] == plain.data()[i]);
      CHECK(plain.data()[columns] == 7 && plain.data()[0] != 7);
    }
  }
}

TEST(box_iou_backward_is_its_scalar_formula_in_every_tail) {
  for (int64_t n : {1, 70})
    for (int64_t m : {1, 17, 63, 300}) {
      Array a = boxes(2, n, 1), b = boxes(2, m, 2), g = random_array({2, n, m}, -1, 1, 3);
      Array ga(DType::f32, {2, n, 4}), gb(DType::f32, {2, m, 4});
      box_iou_backward(g.view, a.view, b.view, ga.view, gb.view, {BoxIou::complete}, test_context());
      IouPair<BoxIou::complete, false, double, double> pair;
      for (int64_t i = 0; i < 2 * n; ++i) {
        auto const one = iou_box<double>(a.data() + 4 * i, BoxFormat::xyxy, BoxIou::complete);
        IouBox<double> total{};
        for (int64_t j = 0; j < m; ++j) {
          auto const other = iou_box<double>(b.data() + 4 * (i / n * m + j), BoxFormat::xyxy, BoxIou::complete);
          pair.score(one, other, 1e-7);
          add_to(total, pair.gradient(one, other, 1e-7, g.data()[i * m + j]));
        }
        float expected[4];
        iou_box_gradient(a.data() + 4 * i, BoxFormat::xyxy, BoxIou::complete,
                         IouBox<float>{float(total.x1), float(total.y1), float(total.x2), float(total.y2),
                                       float(total.area), float(total.cx), float(total.cy), float(total.angle)},
                         expected);
        for (int k = 0; k < 4; ++k) CHECK_NEAR(ga.data()[4 * i + k], expected[k], 1e-5);
      }
      // The IoU of a pair does not change when both boxes move together.
      double sum = 0, size = 0;
      for (int64_t i = 0; i < 2 * n; ++i) sum += double(ga.data()[4 * i]) + ga.data()[4 * i + 2];
      for (int64_t j = 0; j < 2 * m; ++j) sum += double(gb.data()[4 * j]) + gb.data()[4 * j + 2];
      for (int64_t i = 0; i < 2 * n; ++i) size += std::fabs(ga.data()[4 * i]);
      CHECK_NEAR(sum, 0, 1e-5 * (1 + size));
    }
}

TEST(box_iou_rejects_what_does_not_fit) {
  Array a(DType::f32, {1, 2, 3}), b(DType::f32, {1, 2, 4}), out(DType::f32, {1, 2, 2}), small(DType::f32, {1, 2, 1});
  CHECK_THROWS(box_iou(a.view, b.view, out.view, {}, test_context()));
  CHECK_THROWS(box_iou(b.view, b.view, small.view, {}, test_context()));
  CHECK_THROWS(box_iou_backward(out.view, b.view, b.view, a.view, View(), {}, test_context()));
}

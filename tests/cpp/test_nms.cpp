#include "check.h"
#include "ops/nms/nms.h"
#include "tensor.h"

using namespace leyolo;

namespace {

struct Result {
  Array indices, kept;
};

Result run(View boxes, View scores, View labels, View counts, int64_t max_det, Nms const& params) {
  int64_t const b = boxes.shape[0];
  Result r{Array(DType::i64, {b, max_det}), Array(DType::i64, {b})};
  Array workspace(DType::u8, {nms_workspace(boxes, labels)});
  nms(boxes, scores, labels, counts, r.indices.view, r.kept.view, workspace.view, params, test_context());
  return r;
}

Array random_boxes(int64_t b, int64_t n) {
  Array boxes = random_array({b, n, 4}, 0, 50);
  for (int64_t i = 0; i < b * n; ++i)
    for (int d : {0, 1}) boxes.data()[4 * i + 2 + d] += boxes.data()[4 * i + d];
  return boxes;
}

}  // namespace

TEST(nms_keeps_the_better_of_two) {
  Array boxes(DType::f32, {1, 3, 4}), scores(DType::f32, {1, 3});
  float const b[] = {0, 0, 4, 4, 0, 0, 4, 3, 8, 8, 9, 9}, s[] = {0.5f, 0.9f, 0.1f};
  std::copy_n(b, 12, boxes.data());
  std::copy_n(s, 3, scores.data());
  Result r = run(boxes.view, scores.view, View(), View(), 4, {0.7, -INFINITY});
  int64_t const expected[] = {1, 2, -1, -1};
  for (int i = 0; i < 4; ++i) CHECK(r.indices.data<int64_t>()[i] == expected[i]);
  CHECK(r.kept.data<int64_t>()[0] == 2);
  r = run(boxes.view, scores.view, View(), View(), 4, {0.75, -INFINITY});  // exactly at the threshold: all stay
  CHECK(r.kept.data<int64_t>()[0] == 3);
}

TEST(nms_of_every_size_stays_inside_its_arrays) {
  for (int64_t n : {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 100}) {
    Array boxes = random_boxes(3, n), scores = random_array({3, n}, 0, 1), labels(DType::i64, {3, n}),
          counts(DType::i64, {3});
    for (int64_t i = 0; i < 3 * n; ++i) labels.data<int64_t>()[i] = i * 7 % 3 - 1;
    for (int64_t i = 0; i < 3; ++i) counts.data<int64_t>()[i] = n - i;
    for (int64_t max_det : {int64_t(0), int64_t(5), n}) {
      Result one = run(boxes.view, scores.view, View(), View(), max_det, {0.3, -INFINITY});
      Result many = run(boxes.view, scores.view, labels.view, counts.view, max_det, {0.3, 0.2});
      for (Result* r : {&one, &many})
        for (int64_t b = 0; b < 3; ++b) {
          int64_t const kept = r->kept.data<int64_t>()[b];
          CHECK(0 <= kept && kept <= std::min(max_det, n));
          for (int64_t i = 0; i < max_det; ++i) {
            int64_t const index = r->indices.data<int64_t>()[b * max_det + i];
            CHECK(i < kept ? 0 <= index && index < n : index == -1);
          }
        }
    }
  }
}

TEST(nms_in_double) {
  Array boxes(DType::f64, {1, 2, 4}), scores(DType::f64, {1, 2});
  double const b[] = {0, 0, 5, 5, 0, 0, 5, 3};
  std::copy_n(b, 8, boxes.data<double>());
  CHECK(run(boxes.view, scores.view, View(), View(), 2, {0.6, -INFINITY}).kept.data<int64_t>()[0] == 2);
  CHECK(run(boxes.view, scores.view, View(), View(), 2, {0.59, -INFINITY}).kept.data<int64_t>()[0] == 1);
}

TEST(nms_rejects_what_does_not_fit) {
  Array boxes(DType::f32, {1, 3, 4}), scores(DType::f32, {1, 2}), labels(DType::i32, {1, 3}), fit(DType::f32, {1, 3});
  CHECK_THROWS(run(boxes.view, scores.view, View(), View(), 3, {}));
  CHECK_THROWS(run(boxes.view, fit.view, labels.view, View(), 3, {}));
  Array indices(DType::i64, {1, 3}), kept(DType::i64, {1}), workspace(DType::u8, {8});
  CHECK_THROWS(nms(boxes.view, fit.view, View(), View(), indices.view, kept.view, workspace.view, {}, test_context()));
}

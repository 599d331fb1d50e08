#include "ops/nms/nms.h"

#include "check.h"
#include "ops/nms/nms_math.h"
#include "tensor.h"

using namespace leyolo;

TEST(nms_against_plain_loops) {
  for (int64_t n : {0, 1, 15, 33, 200}) {
    Array boxes(DType::f32, {1, n, 4}), scores = random_array({1, n}, 0, 1, 1), corner = random_array({n, 2}, 0, 60, 2),
                                        size = random_array({n, 2}, 5, 30, 3);
    for (int64_t i = 0; i < n; ++i)
      for (int d : {0, 1}) {
        boxes.data()[4 * i + d] = corner.data()[2 * i + d];
        boxes.data()[4 * i + 2 + d] = corner.data()[2 * i + d] + size.data()[2 * i + d];
      }
    std::vector<int64_t> order(n), expected;
    for (int64_t i = 0; i < n; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores.data()[a] > scores.data()[b]; });
    for (int64_t i : order) {
      bool dead = false;
      for (int64_t k : expected)
        dead |= suppresses(load_box<float>(boxes.data() + 4 * k), load_box<float>(boxes.data() + 4 * i), 0.4f);
      if (!dead) expected.push_back(i);
    }
    Array indices(DType::i64, {1, n}), kept(DType::i64, {1}), workspace(DType::u8, {nms_workspace(boxes.view)});
    nms_padded(boxes.view, scores.view, View(), View(), indices.view, kept.view, workspace.view, {double(0.4f)},
               test_context());
    CHECK(kept.data<int64_t>()[0] == int64_t(expected.size()));
    for (size_t k = 0; k < expected.size(); ++k) CHECK(indices.data<int64_t>()[k] == expected[k]);
  }
}

TEST(nms_threshold_is_the_float_below) {
  CHECK(nms_threshold(0.5) == 0.5f);
  CHECK(double(nms_threshold(0.6)) <= 0.6);
  CHECK(double(nms_threshold(0.7)) <= 0.7);
}

#include <algorithm>
#include <array>
#include <cmath>

#include "assigner_case.h"
#include "check.h"
#include "ops/simota/simota.h"

using namespace leyolo;

namespace {

struct Case : AssignerCase {
  using AssignerCase::AssignerCase;
  SimotaInputs inputs() const { return {cls.view, obj.view, boxes.view, gt(), centers.view, strides.view}; }
  void run(Simota const& params) {
    Array workspace(DType::u8, {simota_workspace(inputs(), params)});
    simota_assign(inputs(), outputs(), workspace.view, params, test_context());
  }
};

}  // namespace

TEST(simota_assigns_by_its_own_costs) {
  for (char const* rule : {"main", "v030"})
    for (auto [b, side, c, g] : {std::array<int64_t, 4>{2, 9, 5, 6}, {1, 1, 1, 1}, {3, 13, 17, 33}}) {
      Case x(b, side, c, g);
      Simota params;
      params.rule = rule;
      x.run(params);
      Array cost(DType::f32, {b, g, side * side}), iou(DType::f32, {b, g, side * side});
      Array workspace(DType::u8, {simota_workspace(x.inputs(), params)});
      simota_cost(x.inputs(), cost.view, iou.view, workspace.view, params, test_context());
      int64_t const anchors = side * side;
      for (int64_t i = 0; i < b; ++i) {
        int64_t const n = x.gt_counts.data<int64_t>()[i];
        std::vector<int> asked(size_t(anchors), 0), alone(size_t(anchors), -1);
        for (int64_t t = 0; t < n; ++t) {
          float const* row = cost.data() + (i * g + t) * anchors;
          std::vector<int> order(size_t(anchors), 0);
          for (int j = 0; j < int(anchors); ++j) order[size_t(j)] = j;
          std::stable_sort(order.begin(), order.end(), [&](int l, int r) { return row[l] < row[r]; });
          for (int64_t k = 0; k < std::min(x.dynamic_k.data<int64_t>()[i * g + t], anchors); ++k)
            if (int const j = order[size_t(k)]; row[j] < INFINITY) ++asked[size_t(j)], alone[size_t(j)] = int(t);
        }
        for (int64_t j = 0; j < anchors; ++j) {
          int64_t expected = asked[size_t(j)] ? alone[size_t(j)] : -1;
          if (asked[size_t(j)] > 1) {
            expected = 0;
            for (int64_t t = 1; t < n; ++t)
              if (cost.data()[(i * g + t) * anchors + j] < cost.data()[(i * g + expected) * anchors + j]) expected = t;
          }
          CHECK(x.gt_index.data<int64_t>()[i * anchors + j] == expected);
          CHECK(x.iou.data()[i * anchors + j] == (expected < 0 ? 0.0f : iou.data()[(i * g + expected) * anchors + j]));
        }
      }
    }
}

TEST(simota_reads_nothing_behind_the_counts) {
  Case x(2, 8, 4, 5);
  for (int64_t i = 0; i < 2; ++i) {
    x.gt_counts.data<int64_t>()[i] = 2;
    for (int64_t t = 2; t < 5; ++t) {
      x.gt_labels.data<int32_t>()[i * 5 + t] = -12345;
      for (int d = 0; d < 4; ++d) x.gt_boxes.data()[4 * (i * 5 + t) + d] = NAN;
    }
  }
  x.run({});
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t t = 2; t < 5; ++t) CHECK(x.dynamic_k.data<int64_t>()[i * 5 + t] == 0);
  for (int64_t j = 0; j < 2 * 64; ++j) CHECK(x.gt_index.data<int64_t>()[j] < 2);
}

TEST(simota_with_nothing_to_do) {
  Case none(2, 4, 3, 0);
  none.run({});
  CHECK(none.num_fg.data<int64_t>()[1] == 0);
  Case no_anchors(1, 0, 3, 4);
  no_anchors.run({});
  CHECK(no_anchors.num_fg.data<int64_t>()[0] == 0);
  Case no_images(0, 4, 3, 4);
  no_images.run({});
}

TEST(simota_rejects_what_does_not_fit) {
  Case x(1, 4, 3, 2);
  x.gt_labels.data<int32_t>()[0] = 3;
  CHECK_THROWS(x.run({}));
  x.gt_labels.data<int32_t>()[0] = 0;
  x.gt_counts.data<int64_t>()[0] = 3;
  CHECK_THROWS(x.run({}));
  x.gt_counts.data<int64_t>()[0] = 2;
  Array small(DType::u8, {16});
  CHECK_THROWS(simota_assign(x.inputs(), x.outputs(), small.view, {}, test_context()));
}

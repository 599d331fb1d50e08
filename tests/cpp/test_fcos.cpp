#include <array>
#include <cmath>

#include "assigner_case.h"
#include "check.h"
#include "ops/fcos/fcos.h"

using namespace leyolo;

namespace {

struct Case : AssignerCase {
  using AssignerCase::AssignerCase;
  FcosInputs inputs() const { return {gt(), centers.view, strides.view, View()}; }
  void run(Fcos const& params) {
    Array workspace(DType::u8, {fcos_workspace(inputs())});
    fcos_assign(inputs(), outputs(), workspace.view, params, test_context());
  }
};

}  // namespace

TEST(fcos_of_every_size) {
  for (auto [b, side, c, g] : {std::array<int64_t, 4>{2, 9, 5, 6}, {1, 1, 1, 1}, {3, 13, 17, 33}, {1, 4, 3, 200}}) {
    Case x(b, side, c, g);
    Fcos params;
    params.fmt = "cxcywh";
    x.run(params);
    x.check_result();
    if (side > 1) CHECK(x.num_fg.data<int64_t>()[0] > 0);
  }
}

TEST(fcos_reads_nothing_behind_the_counts) {
  Case x(2, 8, 4, 5);
  for (int64_t i = 0; i < 2; ++i) {
    x.gt_counts.data<int64_t>()[i] = 2;
    for (int64_t t = 2; t < 5; ++t) {
      x.gt_labels.data<int32_t>()[i * 5 + t] = -12345;
      for (int d = 0; d < 4; ++d) x.gt_boxes.data()[4 * (i * 5 + t) + d] = NAN;
    }
  }
  x.run({});
  x.check_result();
}

TEST(fcos_with_nothing_to_do) {
  Case none(2, 4, 3, 0), no_anchors(1, 0, 3, 4), no_images(0, 4, 3, 4);
  none.run({}), no_anchors.run({}), no_images.run({});
  none.check_result(), no_anchors.check_result(), no_images.check_result();
}

TEST(fcos_rejects_what_does_not_fit) {
  Case x(1, 4, 3, 2);
  x.gt_counts.data<int64_t>()[0] = 3;
  CHECK_THROWS(x.run({}));
  x.gt_counts.data<int64_t>()[0] = 2;
  Array small(DType::u8, {16});
  CHECK_THROWS(fcos_assign(x.inputs(), x.outputs(), small.view, {}, test_context()));
}

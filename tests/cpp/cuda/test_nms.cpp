#include <limits>

#include "check.h"
#include "core/half.h"
#include "on_cuda.h"
#include "ops/nms/nms.h"
#include "tensor.h"

using namespace leyolo;

namespace {

constexpr double kAll = -std::numeric_limits<double>::infinity();

struct Case {
  DType dtype = DType::f32;
  int64_t batch = 2, n = 0, max_det = 0;
  bool labelled = false, counted = false;
  float field = 100;  // boxes of up to 50 lie in a square of this size
  Nms params{0.4, kAll};
};

Array converted(DType dtype, Array const& from, std::initializer_list<int64_t> shape) {
  Array to(dtype, shape);
  for (int64_t i = 0; i < from.view.numel(); ++i) {
    float const v = from.view.as<float>()[i];
    switch (dtype) {
      case DType::f64: to.data<double>()[i] = v; break;
      case DType::f16: to.data<float16>()[i] = float16(v); break;
      case DType::bf16: to.data<bfloat16>()[i] = bfloat16(v); break;
      default: to.data()[i] = v;
    }
  }
  return to;
}

// Both devices give the same integers. Scores take 50 values, so that there are ties; some are NaN or infinite.
void compare(Case const& c, float limit = 50) {
  int64_t const b = c.batch, n = c.n;
  Array corners = random_array({b, n, 4}, 0, 50, unsigned(n)),
        values = random_array({b, n}, -5, limit, unsigned(n + 1));
  Array shift = random_array({b, n, 2}, 0, c.field, unsigned(n + 2));
  for (int64_t i = 0; i < b * n; ++i)
    for (int d : {0, 1}) {
      float* const p = corners.data() + 4 * i + d;
      p[2] += shift.data()[2 * i + d] + 1, p[0] = shift.data()[2 * i + d];
    }
  for (int64_t i = 0; i < b * n; ++i) {
    float& v = values.data()[i];
    v = i % 37 == 5 ? NAN : i % 41 == 7 ? -INFINITY : i % 43 == 9 ? -0.0f : std::floor(v) / 50;
  }
  Array boxes = converted(c.dtype, corners, {b, n, 4}), scores = converted(c.dtype, values, {b, n});
  Array labels(DType::i64, {b, n}), counts(DType::i64, {b});
  for (int64_t i = 0; i < b * n; ++i) labels.data<int64_t>()[i] = (i * 7 % 3 - 1) * (int64_t(1) << 40);
  for (int64_t i = 0; i < b; ++i) counts.data<int64_t>()[i] = i == 0 ? n - n / 3 : i == 1 ? n + 5 : -1;
  auto const view_of = [&](Array& a, bool wanted) { return wanted ? a.view : View(); };
  auto const cuda_of = [&](Array& a, bool wanted) { return wanted ? on_cuda(a) : View(); };
  Array indices(DType::i64, {b, c.max_det}), kept(DType::i64, {b}), cuda_indices(DType::i64, {b, c.max_det}),
      cuda_kept(DType::i64, {b}), workspace(DType::u8, {nms_workspace(boxes.view, view_of(labels, c.labelled))});
  nms(boxes.view, scores.view, view_of(labels, c.labelled), view_of(counts, c.counted), indices.view, kept.view,
      workspace.view, c.params, test_context());
  nms(on_cuda(boxes), on_cuda(scores), cuda_of(labels, c.labelled), cuda_of(counts, c.counted), on_cuda(cuda_indices),
      on_cuda(cuda_kept), on_cuda(workspace), c.params, test_context());
  CHECK(same_bits(indices, cuda_indices));
  CHECK(same_bits(kept, cuda_kept));
}

}  // namespace

TEST(nms_is_the_same_on_both_devices) {
  for (int64_t n : {0, 1, 2, 63, 64, 65, 130})
    for (int64_t max_det : {int64_t(0), int64_t(5), n, int64_t(70)})
      for (bool labelled : {false, true})
        for (double score : {kAll, 0.2}) {
          Case c{DType::f32, 3, n, max_det, labelled, labelled, 60, {0.3, score}};
          compare(c);
        }
}

TEST(nms_of_every_type_and_threshold_is_the_same_on_both_devices) {
  for (DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (double threshold : {-1.0, 0.0, 0.5, 1.0, double(NAN)})
      compare({dtype, 1, 100, 100, threshold == 0.5, false, 60, {threshold, kAll}});
}

TEST(nms_of_broken_boxes_is_the_same_on_both_devices) {
  float const values[] = {NAN, INFINITY, -INFINITY, 0, 1, 2, 3, 1e30f, -1e30f, 1e-40f};
  std::mt19937 engine(7);
  Array boxes(DType::f32, {4, 60, 4}), scores = random_array({4, 60}, 0, 1);
  for (int64_t i = 0; i < boxes.view.numel(); ++i) boxes.data()[i] = values[engine() % 10];
  for (double threshold : {-1.0, 0.0, 0.4}) {
    Array indices(DType::i64, {4, 60}), kept(DType::i64, {4}), cuda_indices(DType::i64, {4, 60}),
        cuda_kept(DType::i64, {4}), workspace(DType::u8, {nms_workspace(boxes.view, View())});
    Nms const params{threshold, kAll};
    nms(boxes.view, scores.view, View(), View(), indices.view, kept.view, workspace.view, params, test_context());
    nms(on_cuda(boxes), on_cuda(scores), View(), View(), on_cuda(cuda_indices), on_cuda(cuda_kept), on_cuda(workspace),
        params, test_context());
    CHECK(same_bits(indices, cuda_indices) && same_bits(kept, cuda_kept));
  }
}

// More keys than fit into shared memory, and then few of many that take part.
TEST(nms_sorts_through_the_workspace) {
  compare({DType::f32, 1, 8200, 100, false, false, 2000, {0.5, kAll}});
  compare({DType::f64, 1, 2100, 60, true, true, 2000, {0.5, kAll}});
  compare({DType::f32, 2, 4200, 300, true, true, 500, {0.5, 0.9}});
}

TEST(nms_by_rounds_is_the_same_on_both_devices) {
  compare({DType::f32, 1, 4500, 4500, false, false, 1500, {0.3, kAll}});
  compare({DType::f32, 2, 4200, 4100, true, true, 500, {0.3, 0.9}});
  compare({DType::f64, 1, 4100, 4100, true, false, 1500, {0.3, kAll}});
}

#include <algorithm>

#include "check.h"
#include "core/half.h"
#include "on_cuda.h"
#include "ops/detect_decode/detect_decode.h"
#include "tensor.h"

using namespace leyolo;

namespace {

struct Result {
  Array boxes, scores, labels, counts;

  Result(int64_t batch, int64_t k)
      : boxes(DType::f32, {batch, k, 4}),
        scores(DType::f32, {batch, k}),
        labels(DType::i64, {batch, k}),
        counts(DType::i64, {batch}) {
    std::fill_n(scores.data(), scores.view.numel(), -1.0f);
  }
};

// Logits in steps of 1 / 4, so that many are equal; every 97th is NaN and every 89th infinite where `broken`.
Array random_logits(DType dtype, int64_t batch, int64_t anchors, int64_t channels, bool broken) {
  Array from = random_array({batch, anchors, channels}, -6, 6, unsigned(anchors)),
        to(dtype, {batch, anchors, channels});
  for (int64_t i = 0; i < from.view.numel(); ++i) {
    float v = std::round(4 * from.data()[i]) / 4;
    if (broken) v = i % 97 == 3 ? NAN : i % 89 == 5 ? INFINITY : i % 83 == 7 ? -INFINITY : i % 79 == 9 ? -0.0f : v;
    switch (dtype) {
      case DType::f16: to.data<float16>()[i] = float16(v); break;
      case DType::bf16: to.data<bfloat16>()[i] = bfloat16(v); break;
      default: to.data()[i] = v;
    }
  }
  return to;
}

bool same_floats(float const* a, float const* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) return false;
  return true;
}

void compare(DType dtype, int64_t batch, int64_t anchors, int64_t classes, DetectDecode const& params,
             bool broken = false) {
  int64_t const first = params.head == BoxHead::dfl ? 4 * params.reg_max : 5;
  Array logits = random_logits(dtype, batch, anchors, first + classes, broken);
  Array centers = random_array({anchors, 2}, 0, 640), strides = random_array({anchors}, 8, 32);
  int64_t const k = detect_decode_capacity(logits.view, params);
  Result cpu(batch, k), cuda(batch, k);
  Array workspace(DType::u8, {detect_decode_workspace(logits.view, params)}),
      cuda_workspace(DType::u8, {detect_decode_workspace(on_cuda(logits), params)});
  detect_decode(logits.view, centers.view, strides.view, cpu.boxes.view, cpu.scores.view, cpu.labels.view,
                cpu.counts.view, workspace.view, params, test_context());
  detect_decode(on_cuda(logits), on_cuda(centers), on_cuda(strides), on_cuda(cuda.boxes), on_cuda(cuda.scores),
                on_cuda(cuda.labels), on_cuda(cuda.counts), on_cuda(cuda_workspace), params, test_context());
  CHECK(same_bits(cpu.counts, cuda.counts));
  CHECK(same_bits(cpu.scores, cuda.scores));
  CHECK(same_bits(cpu.labels, cuda.labels));
  CHECK(same_floats(cpu.boxes.data(), cuda.boxes.data(), cpu.boxes.view.numel()));
}

}  // namespace

TEST(detect_decode_is_the_same_on_both_devices) {
  for (BoxHead head : {BoxHead::dfl, BoxHead::yolox})
    for (bool multi : {false, true})
      for (int64_t anchors : {0, 1, 127, 128, 300})
        for (int64_t classes : {1, 16, 21})
          for (int64_t most : {40, 30000}) {
            if (kFewCases && (classes == 1 || anchors == 127 || (anchors == 300) == (most == 30000))) continue;
            compare(DType::f32, 2, anchors, classes, {head, 16, 0.7, most, multi});
          }
}

TEST(detect_decode_of_every_type_is_the_same_on_both_devices) {
  for (DType dtype : {DType::f16, DType::bf16, DType::f32})
    for (BoxHead head : {BoxHead::dfl, BoxHead::yolox})
      for (bool multi : {false, true}) {
        compare(dtype, 1, 140, 80, {head, 16, 0.9, 30000, multi});
        compare(dtype, 1, 140, 8, {head, 16, 0.6, 100, multi}, true);
      }
}

TEST(detect_decode_of_any_number_of_bins_and_threshold_is_the_same_on_both_devices) {
  for (int64_t bins : {1, 3, 16, 17, 40}) compare(DType::f32, 1, 20, 3, {BoxHead::dfl, bins, 0.5, 30000, false}, true);
  for (double threshold : {0.0, 1.0, 0.25})
    for (BoxHead head : {BoxHead::dfl, BoxHead::yolox})
      for (int64_t most : {1, 7, 1000}) compare(DType::f32, 1, 150, 9, {head, 16, threshold, most, true}, true);
}

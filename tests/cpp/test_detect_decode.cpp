#include <algorithm>
#include <limits>

#include "check.h"
#include "ops/conv2d/conv2d.h"
#include "ops/detect_decode/detect_decode.h"
#include "ops/detect_decode/detect_decode_math.h"
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

Result run(Array& logits, DetectDecode const& params) {
  int64_t const anchors = logits.view.shape[1];
  Array centers = random_array({anchors, 2}, 0, 640), strides = random_array({anchors}, 8, 32);
  Result r(logits.view.shape[0], detect_decode_capacity(logits.view, params));
  Array workspace(DType::u8, {detect_decode_workspace(logits.view, params)});
  detect_decode(logits.view, centers.view, strides.view, r.boxes.view, r.scores.view, r.labels.view, r.counts.view,
                workspace.view, params, test_context());
  return r;
}

// Counts agree with a plain count, the kept are the best ones, and nothing behind counts is touched.
void compare(int64_t batch, int64_t anchors, int64_t classes, DetectDecode const& params) {
  int64_t const first = params.head == BoxHead::dfl ? 4 * params.reg_max : 5;
  Array logits = random_array({batch, anchors, first + classes}, -4, 4, unsigned(anchors));
  Result r = run(logits, params);
  int64_t const k = r.scores.view.shape[1];
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<float> expected;
    for (int64_t a = 0; a < anchors; ++a) {
      float const* const row = logits.data() + (b * anchors + a) * (first + classes);
      std::vector<float> scores;
      for (int64_t c = 0; c < classes; ++c)
        scores.push_back(sigmoid_exact(row[first + c]) * (params.head == BoxHead::yolox ? sigmoid_exact(row[4]) : 1));
      if (!params.multi_label) scores = {*std::max_element(scores.begin(), scores.end())};
      for (float s : scores)
        if (s > params.score_threshold) expected.push_back(s);
    }
    std::sort(expected.rbegin(), expected.rend());
    if (int64_t(expected.size()) > k) expected.resize(size_t(k));
    int64_t const count = r.counts.data<int64_t>()[b];
    CHECK(count == int64_t(expected.size()));
    std::vector<float> found(r.scores.data() + b * k, r.scores.data() + b * k + count);
    std::sort(found.rbegin(), found.rend());
    CHECK(found == expected);
    for (int64_t i = count; i < k; ++i) CHECK(r.scores.data()[b * k + i] == -1);
  }
}

}  // namespace

TEST(detect_decode_chunks_and_tails) {
  for (BoxHead head : {BoxHead::dfl, BoxHead::yolox})
    for (bool multi : {false, true})
      for (int64_t anchors : {0, 1, 127, 128, 300})
        for (int64_t classes : {1, 3, 16, 21})
          for (int64_t most : {50, 30000}) compare(2, anchors, classes, {head, 16, 0.7, most, multi});
}

// The last box layer run on all anchors beforehand gives the same bits; nothing is read or written out of bounds.
TEST(detect_decode_features_as_logits) {
  int64_t const in = 20, classes = 3, channels = 64, batch = 2, level_anchors[] = {300, 0, 61}, anchors = 361;
  Array joint = random_array({batch, anchors, in + classes}, -2, 2), weight = random_array({channels, in, 1, 1}, -1, 1);
  Array bias = random_array({channels}, -1, 1), packed(DType::f32, {conv2d_packed_size(channels, in, 1)});
  conv2d_pack(weight.view, bias.view, packed.view);
  Array logits(DType::f32, {batch, anchors, channels + classes});
  int64_t const pitch = in + classes, y_pitch = channels + classes;
  conv2d_image(
      {joint.data(), packed.data(), conv2d_packed_bias(packed.data(), channels, in, 1), nullptr, logits.data(), 1,
       batch * anchors, 1, batch * anchors, pitch, y_pitch, 0, int(in), int(channels), 1, 1, 0, Activation::none},
      test_context());
  for (int64_t i = 0; i < batch * anchors; ++i)
    std::copy_n(joint.data() + i * pitch + in, classes, logits.data() + i * y_pitch + channels);
  View const weights[] = {packed.view, packed.view, packed.view};
  DetectRows const of_classes{joint.data() + in, batch, anchors, classes, anchors * pitch, pitch};
  DetectFeatures const features{{joint.data(), batch, anchors, in, anchors * pitch, pitch}, 3, level_anchors, weights};
  for (double threshold : {0.0, 0.5, 0.8})
    for (int64_t most : {40, 30000}) {
      DetectDecode const params{BoxHead::dfl, 16, threshold, most, true};
      Result expected = run(logits, params);
      Array centers = random_array({anchors, 2}, 0, 640), strides = random_array({anchors}, 8, 32);
      Array workspace(DType::u8, {detect_decode_features_workspace(of_classes, features, params)});
      Result r(batch, detect_decode_features_capacity(of_classes, params));
      detect_decode_features(of_classes, features, centers.view, strides.view, r.boxes.view, r.scores.view,
                             r.labels.view, r.counts.view, workspace.view, params, test_context());
      CHECK(std::equal(r.counts.data<int64_t>(), r.counts.data<int64_t>() + batch, expected.counts.data<int64_t>()));
      CHECK(std::equal(r.scores.data(), r.scores.data() + r.scores.view.numel(), expected.scores.data()));
      CHECK(std::equal(r.boxes.data(), r.boxes.data() + r.boxes.view.numel(), expected.boxes.data()));
    }
}

TEST(detect_decode_bins) {
  for (int64_t bins : {1, 7, 16, 17, 40}) {
    Array logits(DType::f32, {1, 1, 4 * bins + 1});
    Result r = run(logits, {BoxHead::dfl, bins, 0.25, 10, false});
    CHECK(r.counts.data<int64_t>()[0] == 1);
    Array centers = random_array({1, 2}, 0, 640), strides = random_array({1}, 8, 32);
    CHECK_NEAR(r.boxes.data()[2] - centers.data()[0], double(strides.data()[0]) * double(bins - 1) / 2, 1e-3);
  }
}

TEST(detect_decode_exp_and_sigmoid) {
  for (float x = -86; x < 88; x += 0.37f) CHECK_NEAR(exp_exact(x) / std::exp(double(x)), 1, 2.5e-7);
  for (float x = -86; x < 88; x += 0.37f) CHECK_NEAR(sigmoid_exact(x) * (1 + std::exp(-double(x))), 1, 3e-7);
  float const inf = std::numeric_limits<float>::infinity();
  CHECK(exp_exact(inf) == inf && exp_exact(-inf) < 1e-44f && exp_exact(0) == 1 && std::isnan(exp_exact(NAN)));
  CHECK(sigmoid_exact(inf) == 1 && sigmoid_exact(-inf) < 1e-44f && sigmoid_exact(0) == 0.5f);
  CHECK(std::isnan(sigmoid_exact(NAN)));
  CHECK(order_key(-0.0f) == order_key(0.0f) && order_key(-1) < order_key(0) && order_key(1) < order_key(2));
  CHECK(order_key(-2) < order_key(-1) && order_key(-inf) > 0);
}

TEST(detect_decode_rejects) {
  Array logits(DType::f32, {1, 3, 64});
  CHECK_THROWS(run(logits, {}));
  Array good(DType::f32, {1, 3, 65});
  CHECK_THROWS(run(good, {BoxHead::dfl, 16, 0.25, 0, false}));
  CHECK_THROWS(run(good, {BoxHead::dfl, 0, 0.25, 10, false}));
  CHECK_THROWS(run(good, {BoxHead::dfl, 16, NAN, 10, false}));
}

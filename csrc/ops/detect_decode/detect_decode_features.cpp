#include <algorithm>
#include <limits>

#include "core/check.h"
#include "core/dispatch.h"
#include "ops/conv2d/conv2d.h"
#include "ops/detect_decode/detect_decode_candidates.h"

namespace leyolo {

namespace {

constexpr char const* kName = "detect_decode_features";
constexpr int64_t kGather = 48;  // anchors that go through the last layer together: whole register tiles

int64_t scratch_per_slot(DetectFeatures const& f, DetectDecode const& p) {
  return kGather * (f.rows.channels + 4 * p.reg_max);
}

// Boxes through the last layer, on dense copies of the anchors' features.
struct FeatureBoxes final : BoxSource {
  DetectFeatures features;
  int64_t reg_max;
  float const *centers, *strides;
  float* scratch;
  int64_t slot_size;
  Context context;

  FeatureBoxes(DetectFeatures const& f, DetectDecode const& p, View c, View s, float* memory, Context const& threads)
      : features(f),
        reg_max(p.reg_max),
        centers(c.as<float>()),
        strides(s.as<float>()),
        scratch(memory),
        slot_size(scratch_per_slot(f, p)),
        context(threads) {}

  void boxes(int64_t slot, int64_t image, int64_t const* anchors, int64_t count, Box<float>* out) const override {
    float* const memory = scratch + slot * slot_size;
    int64_t level = 0, level_end = features.anchors[0];
    for (int64_t i = 0, end; i < count; i = end) {
      while (anchors[i] >= level_end) level_end += features.anchors[++level];
      end = std::lower_bound(anchors + i, anchors + std::min(count, i + kGather), level_end) - anchors;
      some(memory, image, features.weights[level].as<float>(), anchors + i, end - i, out + i);
    }
  }

 private:
  // Of one level, at most kGather.
  void some(float* memory, int64_t image, float const* packed, int64_t const* anchors, int64_t count,
            Box<float>* out) const {
    DetectRows const& rows = features.rows;
    int64_t const in = rows.channels, channels = 4 * reg_max;
    float* const logits = memory + kGather * in;
    float const* x = rows.row(image, anchors[0]);
    int64_t x_pitch = rows.pitch;
    if (anchors[count - 1] - anchors[0] != count - 1) {  // neighbours are read in place
      for (int64_t i = 0; i < count; ++i) std::copy_n(rows.row(image, anchors[i]), in, memory + i * in);
      x = memory, x_pitch = in;
    }
    conv2d_image({x, packed, conv2d_packed_bias(packed, channels, in, 1), nullptr, logits, 1, count, 1, count, x_pitch,
                  channels, 0, int(in), int(channels), 1, 1, 0, Activation::none},
                 context);
    for (int64_t i = 0; i < count; ++i)
      out[i] = dfl_box(logits + i * channels, reg_max, centers + 2 * anchors[i], strides[anchors[i]]);
  }
};

void check_rows(char const* what, DetectRows const& r) {
  check(r.channels > 0 && r.channels <= std::numeric_limits<int>::max() / 2 && r.pitch >= r.channels &&
            r.image_pitch >= 0,
        kName, ": ", what, " must have channels, and anchors that do not overlap, got ", r.channels,
        " channels, pitch ", r.pitch, ", image pitch ", r.image_pitch);
}

void check_features(DetectRows const& classes, DetectFeatures const& f, DetectDecode const& p) {
  check_rows("features", f.rows);
  check(f.rows.batch == classes.batch && f.rows.anchors == classes.anchors, kName, ": features must be [",
        classes.batch, ", ", classes.anchors, ", F] as classes are, got [", f.rows.batch, ", ", f.rows.anchors, ", ",
        f.rows.channels, "]");
  int64_t total = 0;
  for (int64_t i = 0; i < f.levels; ++i) {
    check(f.anchors[i] >= 0 && f.anchors[i] <= classes.anchors, kName, ": level ", i, " has ", f.anchors[i],
          " anchors");
    total += f.anchors[i];
    int64_t const expected = conv2d_packed_size(4 * p.reg_max, f.rows.channels, 1);
    View const& w = f.weights[i];
    check(w.dtype == DType::f32 && cpu_takes(w.device) && w.numel() == expected, kName, ": weights of level ", i,
          " must be float32 of ", expected, " packed values, got ", w);
  }
  check(total == classes.anchors, kName, ": the levels must have ", classes.anchors, " anchors together, got ", total);
}

}  // namespace

int64_t detect_decode_features_capacity(DetectRows classes, DetectDecode const& p) {
  check(p.head == BoxHead::dfl && p.reg_max > 0 && p.reg_max <= kMaxBins, kName, ": reg_max must be 1 to ", kMaxBins,
        ", got ", p.reg_max);
  check_rows("classes", classes);
  return detect_candidates_capacity(kName, classes.anchors, classes.channels, p);
}

int64_t detect_decode_features_workspace(DetectRows classes, DetectFeatures const& features,
                                         DetectDecode const& params) {
  return detect_candidates_workspace(classes.batch, classes.anchors) +
         4 * detect_slots(classes.batch, classes.anchors) * scratch_per_slot(features, params);
}

void detect_decode_features(DetectRows classes, DetectFeatures const& features, View centers, View strides, View boxes,
                            View scores, View labels, View counts, View workspace, DetectDecode const& params,
                            Context const& context) {
  DetectOutputs const out{boxes, scores, labels, counts};
  int64_t const capacity = detect_decode_features_capacity(classes, params);
  check_features(classes, features, params);
  check_detect(kName, classes.batch, classes.anchors, capacity, centers, strides, out, boxes.device);
  check(cpu_takes(boxes.device), kName, ": has no CUDA kernel, move the tensors to the CPU");
  check(workspace.numel() * size_of(workspace.dtype) >= detect_decode_features_workspace(classes, features, params),
        kName, ": the workspace is too small");
  char* const memory = workspace.as<char>();
  float* const scratch = reinterpret_cast<float*>(memory + detect_candidates_workspace(classes.batch, classes.anchors));
  detect_candidates(classes, 0, FeatureBoxes(features, params, centers, strides, scratch, context), out, memory, params,
                    context);
}

}  // namespace leyolo

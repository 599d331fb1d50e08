// From the raw outputs of a detection head to candidate boxes: threshold, class choice and box decoding in one op.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

// dfl: 4 * reg_max bins (sides left, top, right, bottom, in cells from the centre), then the class logits.
// yolox: tx, ty, tw, th, objectness logit, then the class logits.
enum class BoxHead { dfl, yolox };

struct DetectDecode {
  BoxHead head = BoxHead::dfl;
  int64_t reg_max = 16;  // of dfl
  double score_threshold = 0.25;
  int64_t max_candidates = 30000;
  bool multi_label = false;  // every class above the threshold, else the best one of an anchor (the first of equals)
};

// float32 [B, A, channels] that need not be dense: any distance, in values, between images and between anchors.
struct DetectRows {
  float const* data;
  int64_t batch, anchors, channels, image_pitch, pitch;

  float const* row(int64_t image, int64_t anchor) const { return data + image * image_pitch + anchor * pitch; }
};

// The features of a dfl head before its last box layer, a 1x1 convolution per level.
struct DetectFeatures {
  DetectRows rows;  // levels one after another
  int64_t levels;
  int64_t const* anchors;  // [levels]
  View const* weights;     // [levels] conv2d_pack of [4 reg_max, channels, 1, 1]
};

// Candidates of image b are the pairs (anchor, class) with score > score_threshold, in that order; boxes are xyxy in
// pixels, scores sigmoid(class), for yolox sigmoid(objectness) * sigmoid(class). counts[b] <= K of them are written,
// nothing behind them is. More than K: the K best by logit (yolox: by score; the earlier of equals), in the same order.
//
// The decision never depends on the machine. dfl: logit > t, both float32, with t = log(p / (1 - p)) computed once in
// double and rounded to float32. yolox: the float32 product of the sigmoids of detect_decode_math.h against p. A
// threshold <= 0 lets every candidate pass that is not NaN, one >= 1 none; NaN never passes.
void detect_decode(View logits /*[B, A, 4 reg_max + C] or [B, A, 5 + C], f32, f16, bf16*/, View centers /*[A, 2] f32*/,
                   View strides /*[A] f32*/, View boxes /*[B, K, 4] f32*/, View scores /*[B, K] f32*/,
                   View labels /*[B, K] i64*/, View counts /*[B] i64*/, View workspace /*detect_decode_workspace*/,
                   DetectDecode const& params, Context const& context);

// Check logits and params, and give K and the bytes of scratch.
int64_t detect_decode_capacity(View logits, DetectDecode const& params);
int64_t detect_decode_workspace(View logits, DetectDecode const& params);

// The same, to the bit, for a dfl head whose last box layer has not run yet: it runs here, on the anchors that have a
// candidate.
void detect_decode_features(DetectRows classes /*[B, A, C]*/, DetectFeatures const& features, View centers,
                            View strides, View boxes, View scores, View labels, View counts,
                            View workspace /*detect_decode_features_workspace*/, DetectDecode const& params,
                            Context const& context);

int64_t detect_decode_features_capacity(DetectRows classes, DetectDecode const& params);
int64_t detect_decode_features_workspace(DetectRows classes, DetectFeatures const& features,
                                         DetectDecode const& params);

}  // namespace leyolo

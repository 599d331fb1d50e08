// From class logits to candidates: threshold, choice of classes, the best of too many. Where their boxes come from is
// the caller's affair.
#pragma once

#include "core/box.h"
#include "ops/detect_decode/detect_decode.h"

namespace leyolo {

constexpr int64_t kMaxBins = 1024;     // of a side
constexpr int64_t kDetectChunk = 128;  // anchors that are scanned, counted and written together

// Boxes of `count` anchors of one image, ascending, all in one chunk. Calls that run at the same time have other slots.
struct BoxSource {
  virtual void boxes(int64_t slot, int64_t image, int64_t const* anchors, int64_t count, Box<float>* out) const = 0;

 protected:
  ~BoxSource() = default;
};

struct DetectOutputs {
  View boxes, scores, labels, counts;  // as of detect_decode
};

struct DetectLimits {
  float logit;  // no candidate has a class logit (or objectness) below
  float rank;   // least logit (dfl) or score (yolox) of a candidate
};
DetectLimits detect_limits(DetectDecode const& params);

// Box of an anchor from its 4 * reg_max logits.
Box<float> dfl_box(float const* logits, int64_t reg_max, float const* center, float stride);

// Checks params; candidates per image at most: K.
int64_t detect_candidates_capacity(char const* op, int64_t anchors, int64_t classes, DetectDecode const& params);
// Checks that outputs, centers and strides fit B, A and K.
void check_detect(char const* op, int64_t batch, int64_t anchors, int64_t capacity, View centers, View strides,
                  DetectOutputs const& out, Device device);

int64_t detect_slots(int64_t batch, int64_t anchors);                 // slots are 0 to this
int64_t detect_candidates_workspace(int64_t batch, int64_t anchors);  // bytes
// first_class: channel of the first class logit in a row; yolox: the objectness logit is the one before.
void detect_candidates(DetectRows rows, int64_t first_class, BoxSource const& source, DetectOutputs const& out,
                       void* workspace, DetectDecode const& params, Context const& context);

void detect_decode_cpu(View logits, View centers, View strides, DetectOutputs const& out, View workspace,
                       DetectDecode const& params, Context const& context);
void detect_decode_cuda(View logits, View centers, View strides, DetectOutputs const& out, View workspace,
                        DetectDecode const& params, Context const& context);

}  // namespace leyolo

#include "ops/detect_decode/detect_decode.h"

#include <limits>

#include "core/convert.h"
#include "core/dispatch.h"
#include "ops/detect_decode/detect_decode_candidates.h"
#include "ops/detect_decode/detect_decode_cuda.h"
#include "ops/detect_decode/detect_decode_math.h"

namespace leyolo {

namespace {

char const* name(DetectDecode const& p) { return p.head == BoxHead::dfl ? "detect_decode" : "yolox_decode"; }
int64_t box_channels(DetectDecode const& p) { return p.head == BoxHead::dfl ? 4 * p.reg_max : 5; }

// Boxes from the rows that hold the class logits too.
struct LogitBoxes final : BoxSource {
  DetectRows rows;
  DetectDecode params;
  float const *centers, *strides;

  LogitBoxes(DetectRows const& r, DetectDecode const& p, View c, View s)
      : rows(r), params(p), centers(c.as<float>()), strides(s.as<float>()) {}

  void boxes(int64_t, int64_t image, int64_t const* anchors, int64_t count, Box<float>* out) const override {
    for (int64_t i = 0; i < count; ++i) out[i] = box(rows.row(image, anchors[i]), anchors[i]);
  }

  Box<float> box(float const* row, int64_t anchor) const {
    float const* const center = centers + 2 * anchor;
    float const stride = strides[anchor];
    if (params.head == BoxHead::dfl) return dfl_box(row, params.reg_max, center, stride);
    return yolox_box(row[0], row[1], row[2], row[3], center, stride);
  }
};

int64_t copied(View logits) { return logits.dtype == DType::f32 ? 0 : 4 * logits.numel(); }

}  // namespace

int64_t detect_decode_capacity(View logits, DetectDecode const& p) {
  char const* const op = name(p);
  check(p.head == BoxHead::yolox || (p.reg_max > 0 && p.reg_max <= kMaxBins), op, ": reg_max must be 1 to ", kMaxBins,
        ", got ", p.reg_max);
  check(logits.rank == 3 && logits.shape[2] > box_channels(p) && logits.shape[2] <= std::numeric_limits<int>::max(), op,
        ": logits must be [B, A, ", box_channels(p), " + C] with C >= 1 classes, got ", logits);
  check(logits.dtype == DType::f32 || logits.dtype == DType::f16 || logits.dtype == DType::bf16, op,
        ": logits must be float32, float16 or bfloat16, got ", logits);
  return detect_candidates_capacity(op, logits.shape[1], logits.shape[2] - box_channels(p), p);
}

int64_t detect_decode_workspace(View logits, DetectDecode const& params) {
  detect_decode_capacity(logits, params);
  if (logits.device == Device::cuda) return detect_cuda_workspace(logits.shape[0], logits.shape[1]);
  return (copied(logits) + 7) / 8 * 8 + detect_candidates_workspace(logits.shape[0], logits.shape[1]);
}

void detect_decode(View logits, View centers, View strides, View boxes, View scores, View labels, View counts,
                   View workspace, DetectDecode const& params, Context const& context) {
  char const* const op = name(params);
  DetectOutputs const out{boxes, scores, labels, counts};
  check_detect(op, logits.shape[0], logits.shape[1], detect_decode_capacity(logits, params), centers, strides, out,
               logits.device);
  check(workspace.numel() * size_of(workspace.dtype) >= detect_decode_workspace(logits, params), op,
        ": the workspace is too small");
  LEYOLO_DISPATCH("detect_decode", logits.device,
                  detect_decode_cpu(logits, centers, strides, out, workspace, params, context),
                  detect_decode_cuda(logits, centers, strides, out, workspace, params, context));
}

void detect_decode_cpu(View logits, View centers, View strides, DetectOutputs const& out, View workspace,
                       DetectDecode const& params, Context const& context) {
  char* memory = workspace.as<char>();
  float const* from = logits.as<float>();
  if (logits.dtype != DType::f32) {
    float* const floats = reinterpret_cast<float*>(memory);
    memory += (copied(logits) + 7) / 8 * 8;
    to_float(logits.data, logits.dtype, floats, logits.numel(), context);
    from = floats;
  }
  int64_t const anchors = logits.shape[1], channels = logits.shape[2];
  DetectRows const rows{from, logits.shape[0], anchors, channels, anchors * channels, channels};
  detect_candidates(rows, box_channels(params), LogitBoxes(rows, params, centers, strides), out, memory, params,
                    context);
}

}  // namespace leyolo

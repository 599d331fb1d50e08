#include "ops/simota/simota_plan.h"

#include "core/cpu.h"

namespace leyolo {

LEYOLO_SIMD(void simota_mask(SimotaMaskArgs const&))
LEYOLO_SIMD(void simota_class_sum(SimotaSumArgs&))
LEYOLO_SIMD(void simota_differences(SimotaDifferenceArgs const&))
LEYOLO_SIMD(void simota_row(SimotaPairArgs const&))
LEYOLO_SIMD(void simota_column(SimotaPairArgs const&))

SimotaPlan::SimotaPlan(SimotaInputs const& inputs, Simota const& params, void* workspace) : in(inputs) {
  rule = simota_rule(params);
  radius = simota_radius(params);
  xyxy = params.fmt == "xyxy";
  B = in.cls_logits.shape[0], A = in.cls_logits.shape[1], C = in.cls_logits.shape[2], G = in.gt.boxes.shape[1];
  topk = std::min(params.topk, A);
  width = padded(std::max({A, C, G}));
  Scratch memory(workspace);
  anchors = memory.rows(3, A);
  candidates = memory.rows(int(B * kCandidateFields), A);
  targets = memory.rows(int(B * kBoxFields), G);
  counts = memory.take<int64_t>(B);
  target_offsets = memory.take<int64_t>(B + 1);
  order = memory.take<int64_t>(B * G);
  marks = Marks(memory, B, G, A, topk);
  index = memory.take<int>(B * A);
  ks = memory.take<int>(B * G);
  mask = memory.take<unsigned char>(B * padded(A));
  slots = memory.take<float>(kSlots * 3 * width);
  best_values = memory.take<float>(kSlots * topk);
  bytes = memory.used();
}

void SimotaPlan::fill_candidate(int64_t b, int64_t i, float* buffer) const {
  Rows const rows = candidates_of(b);
  int64_t const anchor = index[b * A + i], at = b * A + anchor;
  fill_box(in.boxes, at, xyxy, rows, i);
  rows[kCenterX][i] = anchors[0][anchor];
  rows[kCenterY][i] = anchors[1][anchor];
  rows[kRadius][i] = anchors[2][anchor];
  rows[kObjectness][i] = in.obj_logits ? sigmoid_exact(float_at(in.obj_logits, at)) : 1.0f;
  SimotaSumArgs sum{floats_at(in.cls_logits, at * C, C, buffer), C, rows[kObjectness][i], bool(in.obj_logits), 0, 0};
  LEYOLO_PICK(simota_class_sum)(sum);
  rows[kClassSum][i] = sum.sum;
  rows[kClassSumLow][i] = sum.sum_low;
}

void SimotaPlan::prepare(Context const& context) {
  for (int64_t j = 0; j < A; ++j) {
    anchors[0][j] = float_at(in.centers, 2 * j);
    anchors[1][j] = float_at(in.centers, 2 * j + 1);
    anchors[2][j] = radius * float_at(in.strides, j);
  }
  for (int field = 0; field < 3; ++field) std::fill(anchors[field] + A, anchors[field] + padded(A), 0.0f);
  fill_offsets(in.gt.counts, target_offsets);

  parallel_for(context, 0, B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      int64_t const n = target_count(b);
      fill_boxes(in.gt.boxes, b * G, n, xyxy, targets_of(b));
      for (int64_t g = 0; g < n; ++g) order[b * G + g] = label(b, g) << 32 | g;
      std::sort(order + b * G, order + b * G + n);
    }
  });

  constexpr int64_t kChunk = 512;
  int64_t const chunks = (padded(A) + kChunk - 1) / kChunk;
  parallel_for(context, 0, B * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = t / chunks, first = t % chunks * kChunk;
      LEYOLO_PICK(simota_mask)
      ({anchors[0], anchors[1], anchors[2], targets_of(b), target_count(b), first, std::min(first + kChunk, padded(A)),
        mask + b * padded(A), rule.inside});
    }
  });

  parallel_for(context, 0, B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      int64_t n = 0;
      for (int64_t j = 0; j < A; ++j) {
        index[b * A + n] = int(j);  // stays only if it is a candidate
        n += mask[b * padded(A) + j];
      }
      counts[b] = n;
      Rows const rows = candidates_of(b);
      for (int field = 0; field < kCandidateFields; ++field) std::fill(rows[field] + n, rows[field] + padded(n), 0.0f);
    }
  });

  int64_t const blocks = (A + 63) / 64;
  for_slots(context, B * blocks, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = t / blocks, first = t % blocks * 64;
      for (int64_t i = first; i < std::min(first + 64, counts[b]); ++i) fill_candidate(b, i, row_of(slot, 0));
    }
  });
}

template <class T>
void SimotaPlan::gather(T const* logits, int64_t b, int64_t c, float* to) const {
  int const* const anchor = index + b * A;
  for (int64_t i = 0; i < counts[b]; ++i) to[i] = float(logits[(b * A + anchor[i]) * C + c]);
}

void SimotaPlan::row(int64_t b, int64_t g, RowBuffers& buffers) const {
  int64_t const n = counts[b], c = label(b, g);
  Rows const rows = candidates_of(b);
  if (b != buffers.of_image || c != buffers.of_class) {
    for_float(in.cls_logits.dtype, "simota",
              [&](auto zero) { gather(in.cls_logits.as<decltype(zero)>(), b, c, buffers.differences); });
    std::fill(buffers.differences + n, buffers.differences + padded(n), 0.0f);
    LEYOLO_PICK(simota_differences)({buffers.differences, in.obj_logits ? rows[kObjectness] : nullptr, padded(n)});
    buffers.of_image = b, buffers.of_class = c;
  }
  LEYOLO_PICK(simota_row)({rows, targets_of(b), g, padded(n), buffers.differences, buffers.cost, buffers.iou, rule});
}

void SimotaPlan::column(int64_t b, int64_t i, float* objectness, float* differences, float* cost) const {
  int64_t const n = target_count(b);
  float const* const raw = floats_at(in.cls_logits, (b * A + index[b * A + i]) * C, C, cost);
  for (int64_t g = 0; g < n; ++g) differences[g] = raw[label(b, g)];
  std::fill(differences + n, differences + padded(n), 0.0f);
  Rows const rows = candidates_of(b);
  std::fill(objectness, objectness + padded(n), rows[kObjectness][i]);
  LEYOLO_PICK(simota_differences)({differences, in.obj_logits ? objectness : nullptr, padded(n)});
  LEYOLO_PICK(simota_column)({rows, targets_of(b), i, padded(n), differences, cost, nullptr, rule});
}

}  // namespace leyolo

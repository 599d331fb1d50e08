#include "core/assignment.h"

#include "core/convert.h"
#include "core/half.h"

namespace leyolo {

namespace {

bool is_integer(DType t) { return t == DType::i64 || t == DType::i32; }

void check_output(char const* op, char const* name, View v, DType dtype, int rank, int64_t first, int64_t second) {
  check(v.rank == rank && v.dtype == dtype && v.shape[0] == first && (rank == 1 || v.shape[1] == second), op, ": ",
        name, " has the wrong shape or dtype, got ", v);
}

}  // namespace

void check_floats(char const* op, char const* name, View v) {
  check(v.dtype == DType::f32 || v.dtype == DType::f16 || v.dtype == DType::bf16, op, ": ", name,
        " must be float32, float16 or bfloat16, got ", v);
}

void check_ground_truth(char const* op, GroundTruth const& gt, int64_t images, int64_t classes) {
  check(gt.boxes.rank == 3 && gt.boxes.shape[0] == images && gt.boxes.shape[2] == 4, op,
        ": gt_boxes must be [B, G, 4] for ", images, " images, got ", gt.boxes);
  check_floats(op, "gt_boxes", gt.boxes);
  int64_t const targets = gt.boxes.shape[1];
  check(gt.labels.rank == 2 && gt.labels.shape[0] == images && gt.labels.shape[1] == targets &&
            is_integer(gt.labels.dtype),
        op, ": gt_labels must be [", images, ", ", targets, "] int64 or int32, got ", gt.labels);
  check(gt.counts.rank == 1 && gt.counts.shape[0] == images && is_integer(gt.counts.dtype), op, ": gt_counts must be [",
        images, "] int64 or int32, got ", gt.counts);
  check_one_device(op, gt.boxes, {gt.labels, gt.counts});
  if (gt.boxes.device != Device::cpu) return;  // to read them would stop the stream
  for (int64_t b = 0; b < images; ++b) {
    int64_t const count = int_at(gt.counts, b);
    check(count >= 0 && count <= targets, op, ": gt_counts must lie in [0, ", targets, "], got ", count, " for image ",
          b);
    for (int64_t g = 0; classes >= 0 && g < count; ++g) {
      int64_t const label = int_at(gt.labels, b * targets + g);
      check(label >= 0 && label < classes, op, ": gt_labels must lie in [0, ", classes, "), got ", label, " for image ",
            b, ", row ", g);
    }
  }
}

void check_centers(char const* op, View centers, int64_t anchors) {
  check(centers.rank == 2 && centers.shape[0] == anchors && centers.shape[1] == 2, op, ": centers must be [", anchors,
        ", 2], got ", centers);
  check_floats(op, "centers", centers);
}

void check_strides(char const* op, View strides, int64_t anchors) {
  check(strides.rank == 1 && strides.shape[0] == anchors, op, ": strides must be [", anchors, "], got ", strides);
  check_floats(op, "strides", strides);
}

void check_assigned(char const* op, Assigned const& out, int64_t images, int64_t anchors, int64_t targets) {
  check_output(op, "gt_index", out.gt_index, DType::i64, 2, images, anchors);
  check_output(op, "iou", out.iou, DType::f32, 2, images, anchors);
  check_output(op, "score", out.score, DType::f32, 2, images, anchors);
  check_output(op, "num_fg", out.num_fg, DType::i64, 1, images, 0);
  check_output(op, "dynamic_k", out.dynamic_k, DType::i64, 2, images, targets);
}

void check_workspace(char const* op, View workspace, int64_t needed) {
  check(workspace.numel() * size_of(workspace.dtype) >= needed, op, ": workspace must hold ", needed, " bytes, got ",
        workspace);
}

bool is_xyxy(char const* op, std::string const& fmt) {
  check(fmt == "xyxy" || fmt == "cxcywh", op, ": fmt must be 'cxcywh' or 'xyxy', got '", fmt, "'");
  return fmt == "xyxy";
}

float float_at(View v, int64_t i) {
  if (v.dtype == DType::f16) return v.as<float16>()[i];
  if (v.dtype == DType::bf16) return v.as<bfloat16>()[i];
  return v.as<float>()[i];
}

int64_t int_at(View v, int64_t i) { return v.dtype == DType::i64 ? v.as<int64_t>()[i] : v.as<int32_t>()[i]; }

float const* floats_at(View v, int64_t begin, int64_t count, float* buffer) {
  if (v.dtype == DType::f32) return v.as<float>() + begin;
  ConvertArgs const a{v.as<uint16_t>() + begin, buffer, count};
  v.dtype == DType::f16 ? LEYOLO_PICK(float_from_f16)(a) : LEYOLO_PICK(float_from_bf16)(a);
  return buffer;
}

void fill_box(View boxes, int64_t source, bool xyxy, Rows rows, int64_t i) {
  float v[4];
  for (int d = 0; d < 4; ++d) v[d] = float_at(boxes, 4 * source + d);
  CenteredBox const b = centered_box(v[0], v[1], v[2], v[3], xyxy);
  rows[kX1][i] = b.box.x1, rows[kY1][i] = b.box.y1, rows[kX2][i] = b.box.x2, rows[kY2][i] = b.box.y2;
  rows[kArea][i] = b.box.area, rows[kCenterX][i] = b.cx, rows[kCenterY][i] = b.cy;
}

void fill_boxes(View boxes, int64_t first, int64_t count, bool xyxy, Rows rows) {
  for (int64_t i = 0; i < count; ++i) fill_box(boxes, first + i, xyxy, rows, i);
  for (int field = 0; field < kBoxFields; ++field) std::fill(rows[field] + count, rows[field] + padded(count), 0.0f);
}

Marks::Marks(Scratch& memory, int64_t images, int64_t targets, int64_t items, int64_t most)
    : B(images), G(targets), A(items), topk(most) {
  picks = memory.take<int>(B * G * topk);
  found = memory.take<int>(B * G);
  owner = memory.take<int>(B * A);
  contested = memory.take<int>(B * A);
  contested_offsets = memory.take<int64_t>(B + 1);
}

void Marks::collect(int64_t b, int64_t items, int64_t targets) const {
  int* const owners = owner_of(b);
  std::fill(owners, owners + items, kNobody);
  for (int64_t g = 0; g < targets; ++g)
    for (int64_t p = 0; p < found_by(b, g); ++p) {
      int& who = owners[picks_of(b, g)[p]];
      who = who == kNobody ? int(g) : kSeveral;
    }
  int64_t n = 0;
  for (int64_t i = 0; i < items; ++i)
    if (owners[i] == kSeveral) contested[b * A + n++] = int(i);
  contested_offsets[b + 1] = n;
}

void clear(Assigned const& out, Context const& context) {
  int64_t const anchors = out.gt_index.shape[1], targets = out.dynamic_k.shape[1];
  parallel_for(context, 0, out.gt_index.shape[0], 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      std::fill_n(out.gt_index.as<int64_t>() + b * anchors, anchors, -1);
      std::fill_n(out.iou.as<float>() + b * anchors, anchors, 0.0f);
      std::fill_n(out.score.as<float>() + b * anchors, anchors, 0.0f);
      std::fill_n(out.dynamic_k.as<int64_t>() + b * targets, targets, 0);
      out.num_fg.as<int64_t>()[b] = 0;
    }
  });
}

void fill_offsets(View counts, int64_t* offsets) {
  offsets[0] = 0;
  for (int64_t b = 0; b < counts.shape[0]; ++b) offsets[b + 1] = offsets[b] + int_at(counts, b);
}

}  // namespace leyolo

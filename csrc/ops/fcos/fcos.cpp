#include "ops/fcos/fcos.h"

#include <cmath>

#include "core/dispatch.h"
#include "ops/fcos/fcos_args.h"

namespace leyolo {

LEYOLO_SIMD(void fcos_anchors(FcosArgs const&))

namespace {

// The distinct strides in the order of their appearance.
struct Levels {
  float strides[kFcosMostLevels];
  int count = 0;

  // The level of a stride, a new one if need be; kFcosMostLevels if there are too many.
  int of(float stride) {
    int level = 0;
    while (level < count && strides[level] != stride) ++level;
    if (level == count && count < kFcosMostLevels) strides[count++] = stride;
    return level;
  }
};

struct Plan {
  FcosInputs const& in;
  int64_t B, A, G;
  Rows anchors, targets;    // x, y, radius, low, high; BoxField
  int64_t* target_offsets;  // [B + 1]
  int* owner;               // [B, padded(A)]
  int64_t bytes;

  Plan(FcosInputs const& inputs, void* workspace) : in(inputs) {
    B = in.gt.boxes.shape[0], A = in.centers.shape[0], G = in.gt.boxes.shape[1];
    Scratch memory(workspace);
    anchors = memory.rows(5, A);
    targets = memory.rows(int(B * kBoxFields), G);
    target_offsets = memory.take<int64_t>(B + 1);
    owner = memory.take<int>(B * padded(A));
    bytes = memory.used();
  }

  Rows targets_of(int64_t b) const { return {targets.base + b * kBoxFields * targets.pitch, targets.pitch}; }
  int64_t target_count(int64_t b) const { return target_offsets[b + 1] - target_offsets[b]; }
  void prepare(Fcos const& params, Context const& context) const;
};

void Plan::prepare(Fcos const& params, Context const& context) const {
  fill_offsets(in.gt.counts, target_offsets);
  Levels levels;
  for (int64_t j = 0; j < A; ++j) {
    float const stride = float_at(in.strides, j);
    anchors[0][j] = float_at(in.centers, 2 * j);
    anchors[1][j] = float_at(in.centers, 2 * j + 1);
    anchors[2][j] = float(params.radius) * stride;
    int const level = in.ranges ? levels.of(stride) : 0;
    anchors[3][j] = in.ranges ? float_at(in.ranges, 2 * level) : -HUGE_VALF;
    anchors[4][j] = in.ranges ? float_at(in.ranges, 2 * level + 1) : HUGE_VALF;
  }
  for (int field = 0; field < 5; ++field) std::fill(anchors[field] + A, anchors[field] + padded(A), 0.0f);
  bool const xyxy = params.fmt == "xyxy";
  parallel_for(context, 0, B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) fill_boxes(in.gt.boxes, b * G, target_count(b), xyxy, targets_of(b));
  });
}

}  // namespace

void fcos_check(FcosInputs const& in, Fcos const& params) {
  char const* const op = "fcos_assign";
  check(in.gt.boxes.rank == 3, op, ": gt_boxes must be [B, G, 4], got ", in.gt.boxes);
  check_ground_truth(op, in.gt, in.gt.boxes.shape[0], -1);
  check(in.centers.rank == 2, op, ": centers must be [A, 2], got ", in.centers);
  int64_t const anchors = in.centers.shape[0];
  check(anchors < int64_t(1) << 31 && in.gt.boxes.numel() < int64_t(1) << 31, op,
        ": too many anchors or ground truths");
  check_centers(op, in.centers, anchors);
  check_strides(op, in.strides, anchors);
  check(params.radius > 0, op, ": radius must be positive, got ", params.radius);
  is_xyxy(op, params.fmt);
  check_one_device(op, in.gt.boxes, {in.centers, in.strides, in.ranges});
  if (!in.ranges) return;
  check(in.ranges.rank == 2 && in.ranges.shape[1] == 2, op, ": ranges must be [levels, 2] or None, got ", in.ranges);
  check_floats(op, "ranges", in.ranges);
  if (in.strides.device != Device::cpu) return;  // to read them would stop the stream
  Levels levels;
  bool fits = true;
  for (int64_t j = 0; fits && j < anchors; ++j) fits = levels.of(float_at(in.strides, j)) < in.ranges.shape[0];
  check(fits && (anchors == 0 || levels.count == in.ranges.shape[0]), op,
        ": ranges must have one row for each distinct stride, got ", in.ranges, " for ", fits ? "" : "more than ",
        fits ? levels.count : levels.count - 1, " strides");
}

int64_t fcos_workspace(FcosInputs const& in) {
  return LEYOLO_DISPATCH("fcos_assign", in.gt.boxes.device, fcos_workspace_cpu(in), fcos_workspace_cuda(in));
}

void fcos_assign(FcosInputs const& in, Assigned const& out, View workspace, Fcos const& params,
                 Context const& context) {
  fcos_check(in, params);
  check_assigned("fcos_assign", out, in.gt.boxes.shape[0], in.centers.shape[0], in.gt.boxes.shape[1]);
  check_workspace("fcos_assign", workspace, fcos_workspace(in));
  LEYOLO_DISPATCH("fcos_assign", in.gt.boxes.device, fcos_assign_cpu(in, out, workspace, params, context),
                  fcos_assign_cuda(in, out, workspace, params, context));
}

int64_t fcos_workspace_cpu(FcosInputs const& in) { return Plan(in, nullptr).bytes; }

void fcos_assign_cpu(FcosInputs const& in, Assigned const& out, View workspace, Fcos const& params,
                     Context const& context) {
  Plan const plan(in, workspace.data);
  plan.prepare(params, context);
  constexpr int64_t kChunk = 512;
  int64_t const length = padded(plan.A), chunks = (length + kChunk - 1) / kChunk;
  parallel_for(context, 0, plan.B * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = t / chunks, first = t % chunks * kChunk;
      Rows const a = plan.anchors;
      LEYOLO_PICK(fcos_anchors)
      ({a[0], a[1], a[2], a[3], a[4], plan.targets_of(b), plan.target_count(b), first, std::min(first + kChunk, length),
        plan.owner + b * length});
    }
  });
  clear(out, context);
  parallel_for(context, 0, plan.B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      for (int64_t j = 0; j < plan.A; ++j) {
        int const g = plan.owner[b * length + j];
        if (g < 0) continue;
        int64_t const at = b * plan.A + j;
        out.gt_index.as<int64_t>()[at] = g;
        out.iou.as<float>()[at] = out.score.as<float>()[at] = 1.0f;
        ++out.num_fg.as<int64_t>()[b];
        ++out.dynamic_k.as<int64_t>()[b * plan.G + g];
      }
  });
}

}  // namespace leyolo

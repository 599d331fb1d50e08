#include "ops/simota/simota.h"

#include <cmath>

#include "core/dispatch.h"
#include "ops/simota/simota_plan.h"

namespace leyolo {

namespace {

// k of every ground truth and the candidates that it marks.
void mark(SimotaPlan const& plan, Context const& context) {
  for_slots(context, plan.target_offsets[plan.B], [&](int64_t begin, int64_t end, int64_t slot) {
    auto buffers = plan.buffers(slot);
    float* const values = plan.best_values + slot * plan.topk;
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = image_of(plan.target_offsets, plan.B, t), g = plan.target_at(b, t), n = plan.counts[b];
      int* const picks = plan.marks.picks_of(b, g);
      int& found = plan.marks.found_by(b, g) = 0;
      int& k = plan.ks[b * plan.G + g] = 1;
      if (n == 0) continue;
      plan.row(b, g, buffers);
      for (int64_t i = 0; i < n; ++i) buffers.iou[i] = -buffers.iou[i];
      int64_t const most = std::min(plan.topk, n);
      int64_t const best = LEYOLO_PICK(select_smallest)({buffers.iou, n, most, values, picks});
      float sum = 0;
      for (int64_t i = 0; i < best; ++i) sum -= values[i];
      k = int(whole_part(sum, most));
      found = int(LEYOLO_PICK(select_smallest)({buffers.cost, n, k, values, picks}));
    }
  });
}

// A candidate that several marked goes to the cheapest ground truth of all.
void settle(SimotaPlan const& plan, Context const& context) {
  plan.marks.settle(
      context, [&](int64_t b) { return plan.counts[b]; }, [&](int64_t b) { return plan.target_count(b); },
      [&](int64_t b, int64_t i, int64_t slot) {
        float* const cost = plan.row_of(slot, 2);
        plan.column(b, i, plan.row_of(slot, 0), plan.row_of(slot, 1), cost);
        return std::min_element(cost, cost + plan.target_count(b)) - cost;
      });
}

void write(SimotaPlan const& plan, Assigned const& out, Context const& context) {
  clear(out, context);
  parallel_for(context, 0, plan.B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t i = 0; i < plan.counts[b]; ++i) {
        int const g = plan.marks.owner_of(b)[i];
        if (g == kNobody) continue;
        int64_t const at = b * plan.A + plan.index[b * plan.A + i];
        out.gt_index.as<int64_t>()[at] = g;
        out.iou.as<float>()[at] = out.score.as<float>()[at] =
            overlap_iou(box_at(plan.targets_of(b), g), box_at(plan.candidates_of(b), i));
        ++out.num_fg.as<int64_t>()[b];
      }
      std::copy_n(plan.ks + b * plan.G, plan.target_count(b), out.dynamic_k.as<int64_t>() + b * plan.G);
    }
  });
}

}  // namespace

void simota_check(char const* op, SimotaInputs const& in, Simota const& params) {
  check(in.cls_logits.rank == 3, op, ": cls_logits must be [B, A, C], got ", in.cls_logits);
  check_floats(op, "cls_logits", in.cls_logits);
  int64_t const images = in.cls_logits.shape[0], anchors = in.cls_logits.shape[1];
  check(anchors < int64_t(1) << 31 && in.gt.boxes.numel() < int64_t(1) << 31, op,
        ": too many anchors or ground truths");
  check(!in.obj_logits ||
            (in.obj_logits.rank == 2 && in.obj_logits.shape[0] == images && in.obj_logits.shape[1] == anchors),
        op, ": obj_logits must be [", images, ", ", anchors, "] or None, got ", in.obj_logits);
  if (in.obj_logits) check_floats(op, "obj_logits", in.obj_logits);
  check(in.boxes.rank == 3 && in.boxes.shape[0] == images && in.boxes.shape[1] == anchors && in.boxes.shape[2] == 4, op,
        ": boxes must be [", images, ", ", anchors, ", 4], got ", in.boxes);
  check_floats(op, "boxes", in.boxes);
  check_ground_truth(op, in.gt, images, in.cls_logits.shape[2]);
  check_centers(op, in.centers, anchors);
  check_strides(op, in.strides, anchors);
  check(params.rule == "main" || params.rule == "v030", op, ": rule must be 'main' or 'v030', got '", params.rule, "'");
  check(params.topk >= 1, op, ": topk must be at least 1, got ", params.topk);
  check(std::isfinite(params.iou_weight) && std::isfinite(params.cls_weight), op,
        ": iou_weight and cls_weight must be finite, got ", params.iou_weight, " and ", params.cls_weight);
  is_xyxy(op, params.fmt);
  check_one_device(op, in.cls_logits, {in.obj_logits, in.boxes, in.gt.boxes, in.centers, in.strides});
}

int64_t simota_workspace(SimotaInputs const& in, Simota const& params) {
  return LEYOLO_DISPATCH("simota_assign", in.cls_logits.device, simota_workspace_cpu(in, params),
                         simota_workspace_cuda(in, params));
}

void simota_assign(SimotaInputs const& in, Assigned const& out, View workspace, Simota const& params,
                   Context const& context) {
  simota_check("simota_assign", in, params);
  check_assigned("simota_assign", out, in.boxes.shape[0], in.boxes.shape[1], in.gt.boxes.shape[1]);
  check_workspace("simota_assign", workspace, simota_workspace(in, params));
  LEYOLO_DISPATCH("simota_assign", in.cls_logits.device, simota_assign_cpu(in, out, workspace, params, context),
                  simota_assign_cuda(in, out, workspace, params, context));
}

void simota_cost(SimotaInputs const& in, View cost, View iou, View workspace, Simota const& params,
                 Context const& context) {
  simota_check("simota_cost", in, params);
  check_workspace("simota_cost", workspace, simota_workspace(in, params));
  int64_t const images = in.boxes.shape[0], anchors = in.boxes.shape[1], targets = in.gt.boxes.shape[1];
  for (View const& v : {cost, iou})
    check(
        v.rank == 3 && v.dtype == DType::f32 && v.shape[0] == images && v.shape[1] == targets && v.shape[2] == anchors,
        "simota_cost: outputs must be [B, G, A] float32, got ", v);
  LEYOLO_DISPATCH("simota_cost", in.cls_logits.device, simota_cost_cpu(in, cost, iou, workspace, params, context),
                  simota_cost_cuda(in, cost, iou, workspace, params, context));
}

int64_t simota_workspace_cpu(SimotaInputs const& in, Simota const& params) {
  return SimotaPlan(in, params, nullptr).bytes;
}

void simota_assign_cpu(SimotaInputs const& in, Assigned const& out, View workspace, Simota const& params,
                       Context const& context) {
  SimotaPlan plan(in, params, workspace.data);
  plan.prepare(context);
  mark(plan, context);
  settle(plan, context);
  write(plan, out, context);
}

void simota_cost_cpu(SimotaInputs const& in, View cost, View iou, View workspace, Simota const& params,
                     Context const& context) {
  SimotaPlan plan(in, params, workspace.data);
  std::fill_n(cost.as<float>(), cost.numel(), HUGE_VALF);
  std::fill_n(iou.as<float>(), iou.numel(), 0.0f);
  plan.prepare(context);
  for_slots(context, plan.target_offsets[plan.B], [&](int64_t begin, int64_t end, int64_t slot) {
    auto buffers = plan.buffers(slot);
    for (int64_t t = begin; t < end; ++t) {
      int64_t const b = image_of(plan.target_offsets, plan.B, t), g = plan.target_at(b, t);
      plan.row(b, g, buffers);
      int64_t const to = (b * plan.G + g) * plan.A;
      for (int64_t i = 0; i < plan.counts[b]; ++i) {
        cost.as<float>()[to + plan.index[b * plan.A + i]] = buffers.cost[i];
        iou.as<float>()[to + plan.index[b * plan.A + i]] = buffers.iou[i];
      }
    }
  });
}

}  // namespace leyolo

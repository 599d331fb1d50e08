// What the numpy adapters of the label assigners share.
#pragma once

#include "bindings/numpy/common.h"
#include "core/assignment.h"

namespace leyolo {

struct AssignedArrays {
  py::array gt_index, iou, score, num_fg, dynamic_k;

  AssignedArrays(int64_t images, int64_t anchors, int64_t targets)
      : gt_index(empty({images, anchors}, DType::i64)),
        iou(empty({images, anchors}, DType::f32)),
        score(empty({images, anchors}, DType::f32)),
        num_fg(empty({images}, DType::i64)),
        dynamic_k(empty({images, targets}, DType::i64)) {}
  Assigned views() const {
    return {view(gt_index, "gt_index"), view(iou, "iou"), view(score, "score"), view(num_fg, "num_fg"),
            view(dynamic_k, "dynamic_k")};
  }
  py::tuple tuple() const { return py::make_tuple(gt_index, iou, score, num_fg, dynamic_k); }
};

inline GroundTruth view_ground_truth(py::array const& boxes, py::array const& labels, py::array const& counts) {
  return {view(boxes, "gt_boxes"), view(labels, "gt_labels"), view(counts, "gt_counts")};
}

}  // namespace leyolo

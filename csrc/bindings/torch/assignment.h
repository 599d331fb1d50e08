// What the torch adapters of the label assigners share.
#pragma once

#include "bindings/torch/common.h"
#include "core/assignment.h"

namespace leyolo {

// gt_index, iou, score, num_fg, dynamic_k
using AssignedTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

inline AssignedTensors empty_assigned(Tensor const& like, int64_t images, int64_t anchors, int64_t targets) {
  return {empty(like, {images, anchors}, ScalarType::Long), empty(like, {images, anchors}, ScalarType::Float),
          empty(like, {images, anchors}, ScalarType::Float), empty(like, {images}, ScalarType::Long),
          empty(like, {images, targets}, ScalarType::Long)};
}

inline Assigned view_assigned(AssignedTensors const& t) {
  return {view(std::get<0>(t), "gt_index"), view(std::get<1>(t), "iou"), view(std::get<2>(t), "score"),
          view(std::get<3>(t), "num_fg"), view(std::get<4>(t), "dynamic_k")};
}

inline GroundTruth view_ground_truth(Tensor const& boxes, Tensor const& labels, Tensor const& counts) {
  return {view(boxes, "gt_boxes"), view(labels, "gt_labels"), view(counts, "gt_counts")};
}

}  // namespace leyolo

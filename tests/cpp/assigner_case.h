// One batch of random predictions and ground truths for the assigners' tests; arrays of exactly the right size.
#pragma once

#include <algorithm>

#include "check.h"
#include "core/assignment.h"
#include "tensor.h"

struct AssignerCase {
  Array cls, obj, boxes, gt_boxes, gt_labels, gt_counts, centers, strides;
  Array gt_index, iou, score, num_fg, dynamic_k;

  AssignerCase(int64_t b, int64_t side, int64_t c, int64_t g)
      : cls(random_array({b, side * side, c}, -4, 4, 1)),
        obj(random_array({b, side * side}, -2, 2, 2)),
        boxes(random_array({b, side * side, 4}, 4, 60, 3)),
        gt_boxes(random_array({b, g, 4}, 2, float(8 * side), 4)),
        gt_labels(leyolo::DType::i32, {b, g}),
        gt_counts(leyolo::DType::i64, {b}),
        centers(leyolo::DType::f32, {side * side, 2}),
        strides(leyolo::DType::f32, {side * side}),
        gt_index(leyolo::DType::i64, {b, side * side}),
        iou(leyolo::DType::f32, {b, side * side}),
        score(leyolo::DType::f32, {b, side * side}),
        num_fg(leyolo::DType::i64, {b}),
        dynamic_k(leyolo::DType::i64, {b, g}) {
    for (int64_t i = 0; i < b * g; ++i) gt_labels.data<int32_t>()[i] = int32_t(i * 7 % c);
    for (int64_t i = 0; i < b; ++i) gt_counts.data<int64_t>()[i] = std::max<int64_t>(0, g - i);
    for (int64_t j = 0; j < side * side; ++j) {
      centers.data()[2 * j] = float(j % side) * 8 + 4;
      centers.data()[2 * j + 1] = float(j / side) * 8 + 4;
      strides.data()[j] = 8;
      for (int64_t i = 0; i < b; ++i)
        for (int d : {0, 1}) boxes.data()[4 * (i * side * side + j) + d] = centers.data()[2 * j + d];
    }
  }
  leyolo::GroundTruth gt() const { return {gt_boxes.view, gt_labels.view, gt_counts.view}; }
  leyolo::Assigned outputs() const { return {gt_index.view, iou.view, score.view, num_fg.view, dynamic_k.view}; }

  // Counts agree with the index, and every index is a ground truth within the count.
  void check_result() {
    int64_t const images = gt_index.view.shape[0], anchors = gt_index.view.shape[1];
    for (int64_t b = 0; b < images; ++b) {
      int64_t foreground = 0;
      for (int64_t j = 0; j < anchors; ++j) {
        int64_t const g = gt_index.data<int64_t>()[b * anchors + j];
        CHECK(g >= -1 && g < gt_counts.data<int64_t>()[b]);
        CHECK(g >= 0 || score.data()[b * anchors + j] == 0.0f);
        foreground += g >= 0;
      }
      CHECK(num_fg.data<int64_t>()[b] == foreground);
    }
  }
};

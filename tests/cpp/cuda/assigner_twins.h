// One batch for both twins of an assigner; every output must be the same, to the bit.
#pragma once

#include <array>
#include <cstring>
#include <string>

#include "assigner_case.h"
#include "on_cuda.h"

struct Twins : AssignerCase {
  using AssignerCase::AssignerCase;

  std::vector<Array*> inputs() { return {&cls, &obj, &boxes, &gt_boxes, &gt_labels, &gt_counts, &centers, &strides}; }
  std::vector<Array*> results() { return {&gt_index, &iou, &score, &num_fg, &dynamic_k}; }

  void place(leyolo::Device device) {
    for (Array* a : inputs()) a->view.device = device;
    for (Array* a : results()) {
      a->view.device = device;
      std::memset(a->memory.get(), 0xee, size_t(a->view.numel() * size_of(a->view.dtype)));
    }
  }
  std::vector<std::string> bytes() {
    std::vector<std::string> all;
    for (Array* a : results()) all.emplace_back(a->memory.get(), size_t(a->view.numel() * size_of(a->view.dtype)));
    return all;
  }

  // workspace_size() and run(workspace) see the inputs where they lie.
  template <class Size, class Run>
  void agree(Size&& workspace_size, Run&& run) {
    std::vector<std::string> of[2];
    for (leyolo::Device device : {leyolo::Device::cpu, leyolo::Device::cuda}) {
      place(device);
      Array workspace(leyolo::DType::u8, {workspace_size()});
      std::memset(workspace.memory.get(), 0xee, size_t(workspace.view.numel()));
      workspace.view.device = device;
      run(workspace.view);
      of[int(device)] = bytes();
    }
    place(leyolo::Device::cpu);
    std::vector<Array*> const arrays = results();
    for (size_t i = 0; i < arrays.size(); ++i) {
      CHECK(of[0][i] == of[1][i] && "outputs in the order of results()");
      std::memcpy(arrays[i]->memory.get(), of[1][i].data(), of[1][i].size());  // for what a test looks at besides
    }
  }
};

// f(name, batch) for every shape and content that has tripped somebody: nothing at all, one of everything, more ground
// truths than a tile in shared memory holds, more anchors than a block has threads, ties, crowds, no candidates,
// degenerate boxes, NaN.
template <class Batch, class F>
void for_every_case(F&& f) {
  using Shape = std::array<int64_t, 4>;  // images, side, classes, ground truths
  for (auto [b, side, c, g] :
       {Shape{0, 4, 3, 4}, {2, 4, 3, 0}, {2, 0, 3, 4}, {1, 1, 1, 1}, {3, 9, 5, 6}, {2, 17, 18, 3}, {1, 16, 33, 70}}) {
    Batch x(b, side, c, g);
    f("shape", x);
  }
  Batch none(2, 8, 4, 5);
  for (int64_t i = 0; i < 2; ++i) none.gt_counts.template data<int64_t>()[i] = 0;
  f("counts of zero", none);

  Batch ties(1, 12, 3, 6);
  std::fill_n(ties.cls.data(), 12 * 12 * 3, 0.5f);
  std::fill_n(ties.obj.data(), 12 * 12, 0.5f);
  for (int64_t j = 0; j < 12 * 12; ++j) ties.boxes.data()[4 * j + 2] = ties.boxes.data()[4 * j + 3] = 16;
  for (int64_t t = 0; t < 6; ++t) {
    float const same[] = {48, 48, 40, 40};
    std::copy_n(same, 4, ties.gt_boxes.data() + 4 * t);
    ties.gt_labels.template data<int32_t>()[t] = 1;
  }
  f("equal ground truths", ties);

  Batch crowd(1, 10, 4, 30);
  for (int64_t t = 0; t < 30; ++t)
    for (int d : {0, 1}) crowd.gt_boxes.data()[4 * t + d] = 40 + float(t % 3);
  f("a crowd on one spot", crowd);

  Batch large(1, 10, 4, 2);
  for (int64_t t = 0; t < 2; ++t) {
    float const all[] = {40, 40, 200, 200};
    std::copy_n(all, 4, large.gt_boxes.data() + 4 * t);
  }
  f("all anchors in each ground truth", large);

  Batch far(2, 6, 4, 3);
  for (int64_t i = 0; i < 2 * 3 * 4; ++i) far.gt_boxes.data()[i] += 1e4f;
  f("no candidates", far);

  Batch degenerate(2, 9, 4, 6);
  for (int64_t i = 0; i < 2 * 6; i += 2) degenerate.gt_boxes.data()[4 * i + 2] = i % 4 ? 0.0f : -5.0f;
  for (int64_t j = 0; j < 2 * 81; j += 3) degenerate.boxes.data()[4 * j + 2] = j % 2 ? 0.0f : 1e-6f;
  f("degenerate boxes", degenerate);

  Batch nan(2, 9, 5, 6);
  for (int64_t j = 0; j < 2 * 81; j += 5) {
    nan.cls.data()[5 * j + j % 5] = NAN;
    nan.cls.data()[5 * j + (j + 1) % 5] = j % 2 ? INFINITY : -INFINITY;
    nan.obj.data()[(j + 7) % 162] = NAN;
    nan.boxes.data()[4 * ((j + 3) % 162) + j % 4] = NAN;
  }
  nan.gt_boxes.data()[4 * 2 + 1] = NAN;
  f("NaN", nan);
}

// What the CPU rejects must not crash on the GPU: counts are clamped, ground truths of unknown labels take no part.
template <class Batch, class Run>
void survives_bad_counts_and_labels(Batch& x, Run&& run, bool labels_count) {
  int64_t const g = x.gt_boxes.view.shape[1];
  int64_t* const counts = x.gt_counts.template data<int64_t>();
  counts[0] = g + 1000, counts[1] = -3;
  x.gt_labels.template data<int32_t>()[0] = 1 << 30;
  x.gt_labels.template data<int32_t>()[1] = -1;
  run();
  counts[0] = g, counts[1] = 0;
  x.check_result();
  for (int64_t j = 0; labels_count && j < x.gt_index.view.shape[1]; ++j)
    CHECK(x.gt_index.template data<int64_t>()[j] != 0 && x.gt_index.template data<int64_t>()[j] != 1);
  for (int t : {0, 1}) CHECK(!labels_count || x.dynamic_k.template data<int64_t>()[t] == 0);
}

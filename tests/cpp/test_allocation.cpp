// Kernels never allocate: all memory comes from the caller.
#include <atomic>
#include <cstdlib>
#include <new>

#include "assigner_case.h"
#include "check.h"
#include "ops/box_iou/box_iou.h"
#include "ops/conv2d/conv2d.h"
#include "ops/detect_decode/detect_decode.h"
#include "ops/inverted_bottleneck/inverted_bottleneck.h"
#include "ops/letterbox/letterbox.h"
#include "ops/nms/nms.h"
#include "ops/ota/ota.h"
#include "ops/simota/simota.h"
#include "ops/tal/tal.h"

using namespace leyolo;

namespace {

std::atomic<int64_t> allocations{0};

// How often f reaches for memory, in any thread, when it runs for the second time (the first starts the threads).
template <class F>
int64_t allocations_of(F f) {
  f();
  int64_t const before = allocations;
  f();
  return allocations - before;
}

}  // namespace

static void* counted(std::size_t size) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
void* operator new(std::size_t size) {
  if (void* p = counted(size)) return p;
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, std::nothrow_t const&) noexcept { return counted(size); }
void* operator new[](std::size_t size, std::nothrow_t const&) noexcept { return counted(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

TEST(allocation_is_noticed) {
  std::unique_ptr<char[]> array;
  CHECK(allocations_of([&] { std::vector<int> v(1000); }) == 1);
  CHECK(allocations_of([&] { array.reset(new char[10]); }) == 1);
}

TEST(allocation_free_detection) {
  int64_t const anchors = 2000, classes = 9, channels = 64, n = 700;
  Array logits = random_array({2, anchors, channels + classes}, -3, 3), centers = random_array({anchors, 2}, 0, 640);
  Array strides = random_array({anchors}, 8, 32), weight = random_array({channels, channels, 1, 1}, -1, 1);
  Array packed(DType::f32, {conv2d_packed_size(channels, channels, 1)});
  conv2d_pack(weight.view, View(), packed.view);
  int64_t const pitch = channels + classes;
  DetectRows const rows{logits.data() + channels, 2, anchors, classes, anchors * pitch, pitch};
  DetectFeatures const features{
      {logits.data(), 2, anchors, channels, anchors * pitch, pitch}, 1, &anchors, &packed.view};
  DetectDecode const params{BoxHead::dfl, 16, 0.8, n, true};  // more candidates than n: the best are selected
  Array boxes(DType::f32, {2, n, 4}), scores(DType::f32, {2, n}), labels(DType::i64, {2, n}), counts(DType::i64, {2});
  Array scratch(DType::u8, {std::max(detect_decode_workspace(logits.view, params),
                                     detect_decode_features_workspace(rows, features, params))});
  CHECK(allocations_of([&] {
          detect_decode(logits.view, centers.view, strides.view, boxes.view, scores.view, labels.view, counts.view,
                        scratch.view, params, test_context());
          detect_decode_features(rows, features, centers.view, strides.view, boxes.view, scores.view, labels.view,
                                 counts.view, scratch.view, params, test_context());
        }) == 0);
  CHECK(counts.data<int64_t>()[0] == n);

  Array indices(DType::i64, {2, 300}), kept(DType::i64, {2}),
      workspace(DType::u8, {nms_workspace(boxes.view, labels.view)});
  CHECK(allocations_of([&] {
          nms(boxes.view, scores.view, labels.view, counts.view, indices.view, kept.view, workspace.view, {0.7, 0.1},
              test_context());
        }) == 0);
  Array iou(DType::f32, {2, n, n});
  CHECK(allocations_of([&] { box_iou(boxes.view, boxes.view, iou.view, {}, test_context()); }) == 0);
}

TEST(allocation_free_letterbox) {
  Array image(DType::u8, {2, 90, 77, 3});
  Letterbox const g = letterbox_geometry(90, 77, 64, 64, 32, false, true);
  for (DType dtype : {DType::f32, DType::f16, DType::u8}) {
    Array out(dtype, {2, 64, 64, 3});
    Array workspace(DType::u8, {letterbox_workspace(out.view, g)});
    CHECK(allocations_of([&] { letterbox(image.view, out.view, workspace.view, g, 114, true, test_context()); }) == 0);
  }
}

TEST(allocation_free_assignment) {
  AssignerCase x(2, 20, 17, 33);
  auto const check = [&](auto const& inputs, auto params, auto workspace_of, auto assign) {
    params.fmt = "cxcywh";
    Array workspace(DType::u8, {workspace_of(inputs, params)});
    CHECK(allocations_of([&] { assign(inputs, x.outputs(), workspace.view, params, test_context()); }) == 0);
    CHECK(x.num_fg.data<int64_t>()[0] > 0);
  };
  GroundTruth const gt = x.gt();
  check(SimotaInputs{x.cls.view, x.obj.view, x.boxes.view, gt, x.centers.view, x.strides.view}, Simota(),
        simota_workspace, simota_assign);
  check(TalInputs{x.cls.view, x.boxes.view, gt, x.centers.view}, Tal(), tal_workspace, tal_assign);
  check(OtaInputs{x.cls.view, x.boxes.view, gt, x.centers.view, x.strides.view}, Ota(), ota_workspace, ota_assign);
}

TEST(allocation_free_convolutions) {
  Array x = random_array({1, 40, 40, 24}, -1, 1), weight = random_array({40, 24, 3, 3}, -1, 1);
  Array packed(DType::f32, {conv2d_packed_size(40, 24, 3)}), y(DType::f32, {1, 40, 40, 40});
  conv2d_pack(weight.view, View(), packed.view);
  CHECK(allocations_of([&] {
          conv2d(x.view, packed.view, View(), y.view, View(), 3, {1, 1, Activation::silu}, test_context());
        }) == 0);
}

TEST(allocation_free_inverted_bottleneck) {
  Array x = random_array({1, 40, 40, 24}, -1, 1), expand = random_array({48, 24, 1, 1}, -1, 1),
        depthwise = random_array({48, 1, 3, 3}, -1, 1), project = random_array({24, 48, 1, 1}, -1, 1);
  Array y(DType::f32, {1, 40, 40, 24});
  for (double share : {0.0, 1e9}) {
    InvertedBottleneck params;
    params.model.share = share;
    Array workspace(DType::u8, {inverted_bottleneck_workspace(x.view, expand.view, depthwise.view, project.view, y.view,
                                                              params, test_context())});
    CHECK(allocations_of([&] {
            inverted_bottleneck(x.view, expand.view, View(), depthwise.view, View(), project.view, View(), y.view,
                                workspace.view, params, test_context());
          }) == 0);
  }
}

#include "assigner_twins.h"
#include "ops/simota/simota.h"

using namespace leyolo;

namespace {

struct Batch : Twins {
  using Twins::Twins;
  bool objectness = true;
  SimotaInputs in() const {
    return {cls.view, objectness ? obj.view : View(), boxes.view, gt(), centers.view, strides.view};
  }
  void run(Simota const& params) {
    agree([&] { return simota_workspace(in(), params); },
          [&](View workspace) { simota_assign(in(), outputs(), workspace, params, test_context()); });
    check_result();
  }
};

}  // namespace

TEST(simota_is_the_same_on_both_devices) {
  for (char const* rule : {"main", "v030"})
    for_every_case<Batch>([&](char const* name, Batch& x) {
      int const before = failures;
      Simota params;
      params.rule = rule;
      x.run(params);
      if (failures > before) std::fprintf(stderr, "  in the case '%s', rule %s\n", name, rule);
    });
}

TEST(simota_options_on_both_devices) {
  for (int64_t topk : {1, 3, 25, 1000000}) {
    Batch x(2, 9, 5, 6);
    Simota params;
    params.topk = topk, params.rule = "v030", params.iou_weight = 0.5, params.cls_weight = topk == 3 ? 0 : 2;
    x.objectness = topk != 25;
    x.run(params);
    params.fmt = "xyxy";
    x.run(params);
  }
}

// Costs that may fall below those within the centre in spite of the penalty.
TEST(simota_weights_that_upset_the_order) {
  for (double weight : {-1.0, 1e5, 2e6}) {
    Batch x(2, 9, 5, 6);
    Simota params;
    params.iou_weight = weight;
    x.run(params);
    params.iou_weight = 3, params.cls_weight = weight;
    x.run(params);
  }
}

TEST(simota_of_more_anchors_than_tiles) {
  Batch x(1, 257, 1, 3);
  x.run({});
}

TEST(simota_costs_on_both_devices) {
  for (auto [b, side, c, g] : {std::array<int64_t, 4>{2, 9, 5, 6}, {1, 1, 1, 1}, {2, 0, 3, 4}, {2, 4, 3, 0}}) {
    Batch x(b, side, c, g);
    Array cost[2] = {{DType::f32, {b, g, side * side}}, {DType::f32, {b, g, side * side}}};
    Array iou[2] = {{DType::f32, {b, g, side * side}}, {DType::f32, {b, g, side * side}}};
    for (Device device : {Device::cpu, Device::cuda}) {
      x.place(device);
      int const d = int(device);
      Array workspace(DType::u8, {simota_workspace(x.in(), {})});
      cost[d].view.device = iou[d].view.device = workspace.view.device = device;
      simota_cost(x.in(), cost[d].view, iou[d].view, workspace.view, {}, test_context());
    }
    CHECK(same_bits(cost[0], cost[1]));
    CHECK(same_bits(iou[0], iou[1]));
  }
}

TEST(simota_survives_on_cuda_what_the_cpu_rejects) {
  Batch x(2, 9, 4, 5);
  survives_bad_counts_and_labels(
      x,
      [&] {
        x.place(Device::cuda);
        Array workspace(DType::u8, {simota_workspace(x.in(), {})});
        simota_assign(x.in(), x.outputs(), on_cuda(workspace), {}, test_context());
      },
      true);
}

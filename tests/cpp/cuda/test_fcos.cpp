#include "assigner_twins.h"
#include "ops/fcos/fcos.h"

using namespace leyolo;

namespace {

struct Batch : Twins {
  using Twins::Twins;
  View ranges;
  FcosInputs in() const { return {gt(), centers.view, strides.view, ranges}; }
  void run(Fcos const& params) {
    agree([&] { return fcos_workspace(in()); },
          [&](View workspace) { fcos_assign(in(), outputs(), workspace, params, test_context()); });
    check_result();
  }
};

}  // namespace

TEST(fcos_is_the_same_on_both_devices) {
  for_every_case<Batch>([&](char const* name, Batch& x) {
    int const before = failures;
    Fcos params;
    params.fmt = "cxcywh";
    x.run(params);
    if (failures > before) std::fprintf(stderr, "  in the case '%s'\n", name);
  });
}

TEST(fcos_levels_on_both_devices) {
  Batch x(2, 18, 3, 9);
  int64_t const anchors = 18 * 18;
  for (int64_t j = 0; j < anchors; ++j) x.strides.data()[j] = j < 300 ? 8.0f : j < 310 ? 32.0f : j % 2 ? 16.0f : 8.0f;
  Array ranges = random_array({3, 2}, 0, 20);
  for (int l = 0; l < 3; ++l) ranges.data()[2 * l + 1] += 40;
  for (double radius : {0.5, 1.5}) {
    Fcos params;
    params.fmt = "cxcywh", params.radius = radius;
    std::vector<std::string> of[2];
    for (Device device : {Device::cpu, Device::cuda}) {
      x.place(device);
      x.ranges = ranges.view, x.ranges.device = device;
      Array workspace(DType::u8, {fcos_workspace(x.in())});
      workspace.view.device = device;
      fcos_assign(x.in(), x.outputs(), workspace.view, params, test_context());
      of[int(device)] = x.bytes();
    }
    CHECK(of[0] == of[1]);
  }
}

TEST(fcos_strides_without_a_range_take_nothing_on_cuda) {
  Batch x(1, 9, 3, 5);
  Array ranges = random_array({1, 2}, 0, 0);
  ranges.data()[1] = 1e9f;
  for (int64_t j = 40; j < 81; ++j) x.strides.data()[j] = float(j);
  x.place(Device::cuda);
  x.ranges = on_cuda(ranges);
  Array workspace(DType::u8, {fcos_workspace(x.in())});
  fcos_assign(x.in(), x.outputs(), on_cuda(workspace), {}, test_context());
  for (int64_t j = 40; j < 81; ++j) CHECK(x.gt_index.data<int64_t>()[j] == -1);
}

TEST(fcos_survives_on_cuda_what_the_cpu_rejects) {
  Batch x(2, 9, 4, 5);
  survives_bad_counts_and_labels(
      x,
      [&] {
        x.place(Device::cuda);
        Array workspace(DType::u8, {fcos_workspace(x.in())});
        fcos_assign(x.in(), x.outputs(), on_cuda(workspace), {}, test_context());
      },
      false);
}

#include "assigner_twins.h"
#include "ops/ota/ota.h"

using namespace leyolo;

namespace {

struct Batch : Twins {
  using Twins::Twins;
  OtaInputs in() const { return {cls.view, boxes.view, gt(), centers.view, strides.view}; }
  void run(Ota const& params) {
    agree([&] { return ota_workspace(in(), params); },
          [&](View workspace) { ota_assign(in(), outputs(), workspace, params, test_context()); });
    check_result();
  }
};

}  // namespace

TEST(ota_is_the_same_on_both_devices) {
  for_every_case<Batch>([&](char const* name, Batch& x) {
    int const before = failures;
    Ota params;
    params.fmt = "cxcywh";
    x.run(params);
    if (failures > before) std::fprintf(stderr, "  in the case '%s'\n", name);
  });
}

TEST(ota_options_on_both_devices) {
  for (double eps : {1e-6, 0.01, 1.0, 30.0}) {
    Batch x(2, 9, 5, 6);
    Ota params;
    params.fmt = "cxcywh", params.eps = eps, params.iterations = 7, params.topk = eps < 0.1 ? 1 : 1000;
    x.run(params);
    params.fmt = "xyxy";
    x.run(params);
  }
}

TEST(ota_of_more_anchors_than_a_chunk) {
  Batch x(2, 33, 3, 4);
  Ota params;
  params.iterations = 3;
  x.run(params);
}

TEST(ota_survives_on_cuda_what_the_cpu_rejects) {
  Batch x(2, 9, 4, 5);
  survives_bad_counts_and_labels(
      x,
      [&] {
        x.place(Device::cuda);
        Array workspace(DType::u8, {ota_workspace(x.in(), {})});
        ota_assign(x.in(), x.outputs(), on_cuda(workspace), {}, test_context());
      },
      true);
}

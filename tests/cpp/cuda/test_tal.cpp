#include "assigner_twins.h"
#include "ops/tal/tal.h"

using namespace leyolo;

namespace {

struct Batch : Twins {
  using Twins::Twins;
  TalInputs in() const { return {cls.view, boxes.view, gt(), centers.view}; }
  void run(Tal const& params) {
    agree([&] { return tal_workspace(in(), params); },
          [&](View workspace) { tal_assign(in(), outputs(), workspace, params, test_context()); });
    check_result();
  }
};

}  // namespace

TEST(tal_is_the_same_on_both_devices) {
  for_every_case<Batch>([&](char const* name, Batch& x) {
    int const before = failures;
    Tal params;
    params.fmt = "cxcywh";
    x.run(params);
    if (failures > before) std::fprintf(stderr, "  in the case '%s'\n", name);
  });
}

TEST(tal_options_on_both_devices) {
  for (int64_t topk : {1, 3, 25, 1000000}) {
    Batch x(2, 9, 5, 6);
    for (int64_t i = 0; i < x.cls.view.numel(); i += 2) x.cls.data()[i] = 0;  // metrics of zero
    Tal params;
    params.fmt = "cxcywh", params.topk = topk, params.alpha = topk == 3 ? 0.7 : 1, params.beta = topk == 1 ? 0.5 : 2;
    x.run(params);
    params.fmt = "xyxy";
    x.run(params);
  }
}

TEST(tal_survives_on_cuda_what_the_cpu_rejects) {
  Batch x(2, 9, 4, 5);
  survives_bad_counts_and_labels(
      x,
      [&] {
        x.place(Device::cuda);
        Array workspace(DType::u8, {tal_workspace(x.in(), {})});
        tal_assign(x.in(), x.outputs(), on_cuda(workspace), {}, test_context());
      },
      true);
}

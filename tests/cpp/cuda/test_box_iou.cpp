#include "check.h"
#include "on_cuda.h"
#include "ops/box_iou/box_iou.h"
#include "tensor.h"

using namespace leyolo;

namespace {

Array boxes(int64_t batch, int64_t n, unsigned seed) {
  Array b = random_array({batch, n, 4}, 1, 50, seed);
  for (int64_t i = 0; i < batch * n; ++i)
    for (int d : {0, 1}) b.data()[4 * i + 2 + d] += b.data()[4 * i + d];
  return b;
}

}  // namespace

TEST(box_iou_is_the_same_on_both_devices) {
  for (int64_t n : {0, 1, 3, 33})
    for (int64_t m : {0, 1, 17})
      for (BoxIou kind : {BoxIou::iou, BoxIou::generalized, BoxIou::distance, BoxIou::complete})
        for (BoxFormat format : {BoxFormat::xyxy, BoxFormat::xywh, BoxFormat::cxcywh}) {
          Array a = boxes(2, n, 1), b = boxes(2, m, 2), cpu(DType::f32, {2, n, m}), cuda(DType::f32, {2, n, m});
          IouParams const params{kind, format, 1e-7};
          box_iou(a.view, b.view, cpu.view, params, test_context());
          box_iou(on_cuda(a), on_cuda(b), on_cuda(cuda), params, test_context());
          CHECK(same_bits(cpu, cuda));
        }
}

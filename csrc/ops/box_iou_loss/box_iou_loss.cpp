#include "ops/box_iou_loss/box_iou_loss.h"

#include <algorithm>

#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/box_iou/box_iou_tile.h"
#include "ops/box_iou_loss/box_iou_loss_args.h"

namespace leyolo {

LEYOLO_SIMD(void box_iou_losses(IouLossArgs<float> const&))

namespace {

constexpr int64_t kGrain = 2048;

void losses(IouLossArgs<float> const& a) { LEYOLO_PICK(box_iou_losses)(a); }

template <BoxIou kind>
void losses_in_double(IouLossArgs<double> const& a) {
  for (int j = 0; j < a.count; ++j) {
    IouBox<double> const first = box_at(*a.first, j), second = box_at(*a.second, j);
    IouPair<kind, true, double, double> pair;
    double const loss = 1 - pair.score(first, second, a.eps);
    if (a.out) a.out[j] = loss;
    if (a.first_gradient) put_box(*a.first_gradient, j, pair.gradient(first, second, a.eps, -a.g[j]));
    if (a.second_gradient) {
      pair.score(second, first, a.eps);
      put_box(*a.second_gradient, j, pair.gradient(second, first, a.eps, -a.g[j]));
    }
  }
}
void losses(IouLossArgs<double> const& a) {
  switch (a.kind) {
    case BoxIou::generalized: return losses_in_double<BoxIou::generalized>(a);
    case BoxIou::distance: return losses_in_double<BoxIou::distance>(a);
    default: return losses_in_double<BoxIou::complete>(a);
  }
}

void check_arguments(View boxes1, View boxes2, View values, BoxIou kind) {
  for (View const& boxes : {boxes1, boxes2})
    check(boxes.rank == 2 && boxes.shape[1] == 4, "box_iou_loss: boxes1 and boxes2 must be [N, 4], got ", boxes1,
          " and ", boxes2);
  check(boxes1.shape[0] == boxes2.shape[0], "box_iou_loss: boxes1 and boxes2 must be as many, got ", boxes1, " and ",
        boxes2);
  check(boxes1.dtype == boxes2.dtype && boxes1.device == boxes2.device,
        "box_iou_loss: boxes1 and boxes2 must share dtype and device, got ", boxes1, " and ", boxes2);
  check(values.rank == 1 && values.shape[0] == boxes1.shape[0] && values.device == boxes1.device &&
            values.dtype == (boxes1.dtype == DType::f64 ? DType::f64 : DType::f32),
        "box_iou_loss: the losses and their gradient must be float32 (float64 for float64) [N], got ", values);
  check(kind != BoxIou::iou, "box_iou_loss: kind must be generalized, distance or complete");
}

bool is_like(View v, View boxes) {
  return !v || (v.rank == 2 && v.dtype == boxes.dtype && std::equal(v.shape, v.shape + 2, boxes.shape));
}

}  // namespace

void box_iou_loss(View boxes1, View boxes2, View out, BoxIou kind, double eps, Context const& context) {
  check_arguments(boxes1, boxes2, out, kind);
  LEYOLO_DISPATCH("box_iou_loss", out.device,
                  box_iou_loss_cpu(boxes1, boxes2, out, View(), View(), View(), kind, eps, context),
                  box_iou_loss_cuda(boxes1, boxes2, out, View(), View(), View(), kind, eps, context));
}

void box_iou_loss_backward(View gradient, View boxes1, View boxes2, View gradient1, View gradient2, BoxIou kind,
                           double eps, Context const& context) {
  check_arguments(boxes1, boxes2, gradient, kind);
  check(is_like(gradient1, boxes1) && is_like(gradient2, boxes2), "box_iou_loss: gradients must be as the boxes, got ",
        gradient1, " and ", gradient2);
  LEYOLO_DISPATCH("box_iou_loss (gradient)", gradient.device,
                  box_iou_loss_cpu(boxes1, boxes2, View(), gradient, gradient1, gradient2, kind, eps, context),
                  box_iou_loss_cuda(boxes1, boxes2, View(), gradient, gradient1, gradient2, kind, eps, context));
}

void box_iou_loss_cpu(View boxes1, View boxes2, View out, View gradient, View gradient1, View gradient2, BoxIou kind,
                      double eps, Context const& context) {
  for_float(boxes1.dtype, "box_iou_loss", [&](auto zero) {
    using T = decltype(zero);
    using A = accumulator_t<T>;
    parallel_for(context, 0, boxes1.shape[0], kGrain, [&](int64_t begin, int64_t end) {
      IouTile<A> first, second, of_first, of_second;
      T const *a = boxes1.as<T>(), *b = boxes2.as<T>();
      auto const finish = [&](View to, T const* boxes, IouTile<A> const& g, int64_t from, int count) {
        for (int j = 0; j < count; ++j)
          iou_box_gradient(boxes + 4 * (from + j), BoxFormat::xyxy, kind, box_at(g, j), to.as<T>() + 4 * (from + j));
      };
      for (int64_t i = begin; i < end; i += kIouColumns) {
        int const count = int(std::min<int64_t>(kIouColumns, end - i));
        fill_tile(first, a + 4 * i, count, BoxFormat::xyxy, kind);
        fill_tile(second, b + 4 * i, count, BoxFormat::xyxy, kind);
        losses({&first, &second, count, kind, A(eps), out ? out.as<A>() + i : nullptr,
                gradient ? gradient.as<A>() + i : nullptr, gradient1 ? &of_first : nullptr,
                gradient2 ? &of_second : nullptr});
        if (gradient1) finish(gradient1, a, of_first, i, count);
        if (gradient2) finish(gradient2, b, of_second, i, count);
      }
    });
  });
}

}  // namespace leyolo

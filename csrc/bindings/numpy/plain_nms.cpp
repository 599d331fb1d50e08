// The greedy loop that detection libraries ship, compiled as their wheels are: what `leyolo benchmark ops` compares nms
// with. Nothing else uses it.
#include <algorithm>
#include <numeric>
#include <vector>

#include "bindings/numpy/common.h"

namespace leyolo {

static std::vector<int64_t> plain_nms(float const* boxes, float const* scores, int64_t count, float threshold) {
  std::vector<int64_t> order(count), kept;
  std::iota(order.begin(), order.end(), int64_t(0));
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  std::vector<float> areas(count);
  for (int64_t i = 0; i < count; ++i) {
    float const* b = boxes + 4 * i;
    areas[i] = (b[2] - b[0]) * (b[3] - b[1]);
  }
  std::vector<char> suppressed(count, 0);
  for (int64_t i = 0; i < count; ++i) {
    int64_t const a = order[i];
    if (suppressed[a]) continue;
    kept.push_back(a);
    float const* x = boxes + 4 * a;
    for (int64_t j = i + 1; j < count; ++j) {
      int64_t const b = order[j];
      if (suppressed[b]) continue;
      float const* y = boxes + 4 * b;
      float const width = std::max(0.f, std::min(x[2], y[2]) - std::max(x[0], y[0]));
      float const height = std::max(0.f, std::min(x[3], y[3]) - std::max(x[1], y[1]));
      float const inter = width * height;
      if (inter / (areas[a] + areas[b] - inter) > threshold) suppressed[b] = 1;
    }
  }
  return kept;
}

LEYOLO_NUMPY_OP(plain_nms) {
  m.def(
      "_plain_nms",
      [](py::array const& boxes, py::array const& scores, float iou_threshold) {
        View const b = view(boxes, "plain_nms: boxes"), s = view(scores, "plain_nms: scores");
        check(b.rank == 2 && b.shape[1] == 4 && s.rank == 1 && s.shape[0] == b.shape[0] && b.dtype == DType::f32 &&
                  s.dtype == DType::f32,
              "plain_nms: expected float32 boxes [N, 4] and scores [N], got ", b, " and ", s);
        auto const kept =
            plain_nms(static_cast<float const*>(b.data), static_cast<float const*>(s.data), b.shape[0], iou_threshold);
        return py::array_t<int64_t>(int64_t(kept.size()), kept.data());
      },
      py::arg("boxes"), py::arg("scores"), py::arg("iou_threshold"),
      "The scalar greedy loop that nms is compared with: float32 boxes [N, 4], scores [N] -> int64 [K].");
}

}  // namespace leyolo

// The pools of SPPF against their definition: every edge, any pitch, a tail of channels, NaN.
#include <cmath>
#include <limits>

#include "check.h"
#include "ops/max_pool2d/max_pool2d.h"
#include "tensor.h"

using namespace leyolo;

namespace {

float greatest(MaxPool2dArgs const& a, int64_t row, int64_t column, int channel) {
  int64_t const reach = a.kernel / 2;
  float best = -std::numeric_limits<float>::infinity();
  for (int64_t y = std::max<int64_t>(0, row - reach); y <= std::min<int64_t>(a.height - 1, row + reach); ++y)
    for (int64_t x = std::max<int64_t>(0, column - reach); x <= std::min<int64_t>(a.width - 1, column + reach); ++x) {
      float const v = a.x[(y * a.width + x) * a.x_pitch + channel];
      if (std::isnan(v)) return v;
      best = std::max(best, v);
    }
  return best;
}

}  // namespace

TEST(max_pool2d_is_its_definition) {
  struct Size {
    int64_t height, width;
    int channels, kernel;
  };
  for (Size s : {Size{1, 1, 1, 5}, Size{20, 20, 48, 5}, Size{7, 3, 17, 5}, Size{5, 90, 4, 3}, Size{9, 70, 33, 63},
                 Size{4, 4, 16, 1}}) {
    int64_t const x_pitch = s.channels + 3, y_pitch = s.channels + 1, pixels = s.height * s.width;
    Array x = random_array({pixels * x_pitch}, -5, 5), y(DType::f32, {pixels * y_pitch});
    x.data()[(pixels / 2) * x_pitch] = std::nanf("");
    x.data()[(pixels - 1) * x_pitch] = -std::numeric_limits<float>::infinity();
    std::fill_n(y.data(), y.view.numel(), 7.0f);
    MaxPool2dArgs const a{x.data(), y.data(), s.height, s.width, x_pitch, y_pitch, s.channels, s.kernel};
    max_pool2d_image(a, test_context());
    for (int64_t i = 0; i < pixels; ++i) {
      for (int c = 0; c < s.channels; ++c) {
        float const expected = greatest(a, i / s.width, i % s.width, c), found = y.data()[i * y_pitch + c];
        CHECK(found == expected || (std::isnan(found) && std::isnan(expected)));
      }
      CHECK(y.data()[i * y_pitch + s.channels] == 7);  // between the pixels nothing is written
    }
  }
}

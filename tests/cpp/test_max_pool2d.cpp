#include "check.h"
#include "ops/max_pool2d/max_pool2d.h"
#include "tensor.h"

using namespace leyolo;

namespace {

// Channels 3.. of x to the channels behind them: what SPPF does in its one buffer.
void compare(int64_t h, int64_t w, int64_t channels, int64_t k, bool with_nan) {
  int64_t const pitch = 2 * channels + 5;
  Array x = random_array({h, w, pitch}, -2, with_nan ? 1 : -0.5f, 1);
  if (with_nan)
    for (int64_t i = 0; i < x.view.numel(); i += 41) x.data()[i] = i % 2 ? std::nanf("") : -std::nanf("");
  Array y = random_array({h, w, pitch}, -2, -1, 2), before = random_array({h, w, pitch}, -2, -1, 2);
  max_pool2d_image({x.data() + 3, y.data() + 3 + channels, h, w, pitch, pitch, int(channels), int(k)}, test_context());
  for (int64_t i = 0; i < h; ++i)
    for (int64_t j = 0; j < w; ++j)
      for (int64_t c = 0; c < pitch; ++c) {
        int64_t const at = (i * w + j) * pitch + c;
        if (c < 3 + channels || c >= 3 + 2 * channels) {
          CHECK(y.data()[at] == before.data()[at]);
          continue;
        }
        float best = -HUGE_VALF;
        for (int64_t r = std::max<int64_t>(0, i - k / 2); r <= std::min(h - 1, i + k / 2); ++r)
          for (int64_t s = std::max<int64_t>(0, j - k / 2); s <= std::min(w - 1, j + k / 2); ++s) {
            float const v = x.data()[(r * w + s) * pitch + c - channels];
            if (v > best || v != v) best = v;
            if (best != best) r = h, s = w;
          }
        CHECK(y.data()[at] == best || (y.data()[at] != y.data()[at] && best != best));
      }
}

}  // namespace

TEST(max_pool2d_of_every_size) {
  for (int64_t channels : {1, 4, 16, 31, 48})
    for (bool with_nan : {false, true}) {
      compare(1, 1, channels, 5, with_nan);
      compare(7, 9, channels, 5, with_nan);
      compare(2, 3, channels, 1, with_nan);
      compare(3, 12, channels, 13, with_nan);
      compare(4, 131, channels, 5, with_nan);
      compare(3, 66, channels, 63, with_nan);
    }
}

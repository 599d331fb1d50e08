#include "bf16.h"
#include "check.h"
#include "core/isa.h"
#include "ops/max_pool2d/max_pool2d.h"

using namespace leyolo;

namespace {

void compare(int64_t h, int64_t w, int64_t channels, int64_t k, bool with_nan) {
  if (!has_bf16_dot()) return;
  Array x = random_array({h, w, channels}, -2, with_nan ? 1 : -0.5f, 1);
  if (with_nan)
    for (int64_t i = 0; i < x.view.numel(); i += 41) x.data()[i] = i % 2 ? std::nanf("") : -std::nanf("");
  Array const half = to_bf16(x);
  Array y(DType::bf16, {h, w, channels});
  max_pool2d_bf16_image(
      {half.view.as<uint16_t>(), y.view.as<uint16_t>(), h, w, channels, channels, int(channels), int(k)},
      test_context());
  for (int64_t i = 0; i < h; ++i)
    for (int64_t j = 0; j < w; ++j)
      for (int64_t c = 0; c < channels; ++c) {
        float best = -HUGE_VALF;
        for (int64_t r = std::max<int64_t>(0, i - k / 2); r <= std::min(h - 1, i + k / 2); ++r)
          for (int64_t s = std::max<int64_t>(0, j - k / 2); s <= std::min(w - 1, j + k / 2); ++s) {
            float const v = x.data()[(r * w + s) * channels + c];
            if (v > best || v != v) best = v;
            if (best != best) r = h, s = w;
          }
        float const got = y.data<bfloat16>()[(i * w + j) * channels + c];
        CHECK(got == best || (got != got && best != best));
      }
}

}  // namespace

TEST(max_pool2d_bf16_of_every_size) {
  for (int64_t channels : {1, 16, 31, 32, 48, 65})
    for (bool with_nan : {false, true}) {
      compare(1, 1, channels, 5, with_nan);
      compare(7, 9, channels, 5, with_nan);
      compare(3, 12, channels, 13, with_nan);
    }
}

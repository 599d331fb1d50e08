#include "bf16.h"
#include "check.h"

using namespace leyolo;

TEST(rounding_together_keeps_the_sum) {
  for (int64_t count : {1, 9, 25, 576}) {
    Array weights = random_array({count}, -1, 2, unsigned(count));
    for (float scale : {1.0f, kSiluScale}) {
      auto const rounded = round_together(weights.data(), count, scale);
      double sum = 0, smallest = 1e9;
      for (int64_t i = 0; i < count; ++i) {
        double const exact = double(scale) * weights.data()[i], error = double(rounded[size_t(i)]) - exact;
        CHECK(std::fabs(error) <= 0x1p-7 * 2 * std::fabs(scale));
        sum += error;
        smallest = std::min(smallest, std::fabs(exact));
      }
      CHECK(std::fabs(sum) <= 0x1p-8 * (smallest + 0x1p-8 * 2));
    }
  }
}

TEST(rounding_together_keeps_what_is_not_finite) {
  float const weights[] = {1, std::nanf(""), HUGE_VALF, 2};
  auto const rounded = round_together(weights, 4, 1.0f);
  CHECK(std::isnan(float(rounded[1])));
  CHECK(float(rounded[2]) == HUGE_VALF);
  CHECK(float(rounded[0]) == 1 && float(rounded[3]) == 2);
}

#include <cmath>
#include <limits>

#include "check.h"
#include "core/exact_math.h"

using namespace leyolo;

namespace {

double ulps(float ours, double exact) {
  float const size = std::fabs(float(exact));
  return std::fabs(double(ours) - exact) / double(std::nextafter(size, INFINITY) - size);
}

}  // namespace

TEST(exact_log) {
  double worst = 0;
  for (float x = 1e-44f; x < 1e38f; x = x * 1.0007f + 1e-45f)
    worst = std::fmax(worst, ulps(log_exact(x), std::log(double(x))));
  for (float x = 0.7f; x < 1.5f; x += 1e-6f) worst = std::fmax(worst, ulps(log_exact(x), std::log(double(x))));
  CHECK_NEAR(worst, 0, 1.0);
  CHECK(log_exact(1.0f) == 0.0f);
  CHECK(log_exact(0.0f) == -INFINITY);
  CHECK(log_exact(float(INFINITY)) == float(INFINITY));
  CHECK(std::isnan(log_exact(-1.0f)));
  CHECK(std::isnan(log_exact(std::numeric_limits<float>::quiet_NaN())));
}

TEST(exact_exp) {
  double worst = 0;
  for (float x = -87.0f; x < 88.7f; x += 1e-4f) worst = std::fmax(worst, ulps(exp_exact(x), std::exp(double(x))));
  CHECK_NEAR(worst, 0, 2.0);
  CHECK(exp_exact(0.0f) == 1.0f);
  CHECK(exp_exact(-1000.0f) == 0.0f);
  CHECK(exp_exact(-float(INFINITY)) == 0.0f);
  CHECK(exp_exact(1000.0f) == float(INFINITY));
  CHECK(std::isnan(exp_exact(std::numeric_limits<float>::quiet_NaN())));
  CHECK(sigmoid_exact(-100.0f) == 0.0f);
  CHECK(sigmoid_exact(100.0f) == 1.0f);
}

TEST(exact_atan_and_power) {
  double worst = 0;
  for (float x = 1e-6f; x < 1e6f; x *= 1.00003f) worst = std::fmax(worst, ulps(atan_exact(x), std::atan(double(x))));
  CHECK_NEAR(worst, 0, 3.0);
  CHECK(atan_exact(-1.0f) == -atan_exact(1.0f));
  CHECK_NEAR(atan_exact(float(INFINITY)), std::atan(double(INFINITY)), 1e-7);
  CHECK(power_exact(3.0f, 4.0f) == 81.0f);
  CHECK(power_exact(9.0f, 0.5f) == 3.0f);
  CHECK(power_exact(7.0f, 0.0f) == 1.0f);
  CHECK_NEAR(power_exact(0.3f, 2.5f), std::pow(0.3, 2.5), 1e-7);
  CHECK(power_exact(0.0f, 2.5f) == 0.0f);
}

#include "core/bf16_round.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace leyolo {

std::vector<bfloat16> round_together(float const* weights, int64_t count, float scale) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  // NaN sorts as the largest.
  auto const size = [&](int64_t i) { return weights[i] == weights[i] ? std::fabs(weights[i]) : HUGE_VALF; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size(a) > size(b); });
  std::vector<bfloat16> rounded(order.size());
  double carry = 0;
  for (int64_t i : order) {
    double const exact = double(weights[i]) * scale, wanted = exact + carry;
    rounded[size_t(i)] = bfloat16(float(wanted));
    double const error = wanted - double(rounded[size_t(i)]);
    if (std::isfinite(error)) carry = error;
  }
  return rounded;
}

}  // namespace leyolo

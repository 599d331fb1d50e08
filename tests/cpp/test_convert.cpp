// Vectorised conversions against the scalar ones, for every float16 and bfloat16 there is and for halfway cases.
#include <cmath>

#include "check.h"
#include "core/convert.h"
#include "core/half.h"
#include "tensor.h"

using namespace leyolo;

namespace {

bool same(float a, float b) { return (a != a && b != b) || (a == b && std::signbit(a) == std::signbit(b)); }

template <class Half>
void round_trip(DType dtype) {
  int64_t const n = 65536;
  Array half(dtype, {n}), floats(DType::f32, {n}), back(dtype, {n});
  for (int64_t i = 0; i < n; ++i) half.data<uint16_t>()[i] = uint16_t(i);
  to_float(half.view.data, dtype, floats.data(), n, test_context());
  from_float(floats.data(), back.view.data, dtype, n, test_context());
  for (int64_t i = 0; i < n; ++i) {
    float const value = half.data<Half>()[i];
    CHECK(same(floats.data()[i], value));
    CHECK(value != value || back.data<uint16_t>()[i] == uint16_t(i));
  }
  // Between neighbours, and at odd counts.
  int64_t const m = 4099;
  Array odd = random_array({m}, -70000, 70000, 1), rounded(dtype, {m});
  for (int64_t i = 0; i < m; i += 3) odd.data()[i] = std::ldexp(odd.data()[i], -int(i % 45));
  from_float(odd.data(), rounded.view.data, dtype, m, test_context());
  for (int64_t i = 0; i < m; ++i) CHECK(rounded.data<uint16_t>()[i] == Half(odd.data()[i]).bits);
}

}  // namespace

TEST(convert_float16) { round_trip<float16>(DType::f16); }
TEST(convert_bfloat16) { round_trip<bfloat16>(DType::bf16); }

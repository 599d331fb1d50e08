// float16 and bfloat16 as storage: they convert to and from float (round to nearest even), arithmetic is in float.
#pragma once

#include <cstdint>
#include <cstring>

namespace leyolo {

namespace detail {
inline uint32_t bits_of(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}
inline float float_of(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
}  // namespace detail

struct bfloat16 {
  uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float f) {
    uint32_t const u = detail::bits_of(f);
    bits = f == f ? uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16) : uint16_t(0x7fc0);
  }
  operator float() const { return detail::float_of(uint32_t(bits) << 16); }
};

struct float16 {
  uint16_t bits = 0;

  float16() = default;
  explicit float16(float f) {
    uint32_t const u = detail::bits_of(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) {  // infinity, NaN
      bits = uint16_t(sign | 0x7c00u | (magnitude > 0x7f800000u ? 0x200u : 0u));
    } else if (magnitude >= 0x38800000u) {  // normal: rounding may carry into the exponent, up to infinity
      uint32_t const rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
      bits = uint16_t(sign | (rounded >= 0x47800000u ? 0x7c00u : (rounded - 0x38000000u) >> 13));
    } else {  // subnormal: let the float adder round at bit 2^-24
      uint32_t const sum = detail::bits_of(detail::float_of(magnitude) + 0.5f);
      bits = uint16_t(sign | (sum - 0x3f000000u));
    }
  }
  operator float() const {
    uint32_t const sign = uint32_t(bits & 0x8000u) << 16, rest = uint32_t(bits & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) return detail::float_of(sign | rest | 0x7f800000u);
    // Subnormals too: the scaling by 2^112 renormalises them.
    return detail::float_of(sign | detail::bits_of(detail::float_of(rest) * 0x1p112f));
  }
};

}  // namespace leyolo

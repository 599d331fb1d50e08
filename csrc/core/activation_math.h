// Scalar activations and their derivatives, for the float64 path and for tests.
#pragma once

#include <cmath>

#include "core/activation.h"
#include "core/check.h"

namespace leyolo {

inline Activation activation_from(int64_t value, char const* op) {
  check(value >= 0 && value <= 4, op,
        ": activation must be 0 (none), 1 (silu), 2 (relu), 3 (relu6) or 4 (hardswish), got ", value);
  return Activation(value);
}

inline Activation activation_from(std::string const& name, char const* op) {
  constexpr char const* names[] = {"none", "silu", "relu", "relu6", "hardswish"};
  for (int i = 0; i < 5; ++i)
    if (name == names[i]) return Activation(i);
  fail(op, ": activation must be none, silu, relu, relu6 or hardswish, got '", name, "'");
}

template <class T>
T activate(Activation a, T x) {
  switch (a) {
    case Activation::silu: return x / (T(1) + std::exp(-x));
    case Activation::relu: return x < T(0) ? T(0) : x;  // NaN stays
    case Activation::relu6: return x < T(0) ? T(0) : x > T(6) ? T(6) : x;
    case Activation::hardswish: return x <= T(-3) ? T(0) : x >= T(3) ? x : x * (x + T(3)) / T(6);
    default: return x;
  }
}

// d activate(x) / dx; at the kinks what torch's autograd gives.
template <class T>
T activation_gradient(Activation a, T x) {
  switch (a) {
    case Activation::silu: {
      T const s = T(1) / (T(1) + std::exp(-x));
      return s * (T(1) + x * (T(1) - s));
    }
    case Activation::relu: return x > T(0) ? T(1) : T(0);
    case Activation::relu6: return x > T(0) && x < T(6) ? T(1) : T(0);
    case Activation::hardswish: return x <= T(-3) ? T(0) : x < T(3) ? x / T(3) + T(0.5) : T(1);
    default: return T(1);
  }
}

}  // namespace leyolo

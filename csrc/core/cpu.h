// For the CPU twins: one lambda per storage type.
#pragma once

#include "core/check.h"
#include "core/context.h"
#include "core/half.h"
#include "core/isa.h"

namespace leyolo {

// Calls f(T()) with the storage type of `dtype`; `op` names the caller in the error.
template <class F>
void for_float(DType dtype, char const* op, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float());
    case DType::f64: return f(double());
    case DType::f16: return f(float16());
    case DType::bf16: return f(bfloat16());
    default: fail(op, ": expected float32, float64, float16 or bfloat16, got ", dtype);
  }
}

// The type in which values of storage type T are computed.
template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <class T>
using accumulator_t = typename Accumulator<T>::type;

}  // namespace leyolo

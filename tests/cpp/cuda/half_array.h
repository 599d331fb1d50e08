// Arrays in float16 and bfloat16, and what comes out of them, as floats.
#pragma once

#include "core/half.h"
#include "tensor.h"

inline Array in_type(Array& from, leyolo::DType type) {
  Array to(type, {from.view.numel()});
  to.view.rank = from.view.rank;
  for (int d = 0; d < from.view.rank; ++d) to.view.shape[d] = from.view.shape[d];
  for (int64_t i = 0; i < from.view.numel(); ++i) {
    if (type == leyolo::DType::f16) to.data<leyolo::float16>()[i] = leyolo::float16(from.data()[i]);
    if (type == leyolo::DType::bf16) to.data<leyolo::bfloat16>()[i] = leyolo::bfloat16(from.data()[i]);
    if (type == leyolo::DType::f32) to.data()[i] = from.data()[i];
  }
  return to;
}

inline float value_at(Array& a, int64_t i) {
  if (a.view.dtype == leyolo::DType::f16) return a.data<leyolo::float16>()[i];
  if (a.view.dtype == leyolo::DType::bf16) return a.data<leyolo::bfloat16>()[i];
  return a.data()[i];
}

// One unit in the last place at 1.
inline double epsilon_of(leyolo::DType type) {
  return type == leyolo::DType::f16 ? 0x1p-10 : type == leyolo::DType::bf16 ? 0x1p-7 : 0x1p-23;
}

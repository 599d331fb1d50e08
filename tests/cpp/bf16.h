// For the tests of the bfloat16 kernels: arrays of bfloat16 and the allowed error of an output.
#pragma once

#include <cmath>

#include "core/bf16.h"
#include "core/half.h"
#include "tensor.h"

// `from` rounded to bfloat16; `from` then holds the rounded values.
inline Array to_bf16(Array& from) {
  Array to(leyolo::DType::bf16, {from.view.numel()});
  for (int64_t i = 0; i < from.view.numel(); ++i)
    from.data()[i] = to.data<leyolo::bfloat16>()[i] = leyolo::bfloat16(from.data()[i]);
  return to;
}

// Weights as the kernels see them: scaled for the activation, rounded, and scaled back.
inline std::vector<double> packed_weights(Array& weight, leyolo::Activation a) {
  float const scale = leyolo::bf16_scale(a);
  std::vector<double> all;
  for (int64_t i = 0; i < weight.view.numel(); ++i)
    all.push_back(double(leyolo::bfloat16(scale * weight.data()[i])) / double(scale));
  return all;
}

// A float32 sum of `terms` products whose magnitudes add up to `magnitude`, an activation with a relative error of
// 2^-12 and a slope of at most 1.1, and one rounding of the result: 2^-8, or 2^-24 where it is stored as float32.
inline double bf16_tolerance(double magnitude, int64_t terms, double activated, double result, bool float_y) {
  return 1.1 * magnitude * double(terms + 2) * 0x1p-23 + std::fabs(activated) * 0x1p-12 +
         std::fabs(result) * (float_y ? 0x1p-22 : 1.01 * 0x1p-8) + 1e-30;
}

// Shared with *.bf16.simd.cpp, hence no standard header.
#pragma once

#include "core/activation.h"

namespace leyolo {

// The bfloat16 kernels want the argument of a SiLU times this (-log2 e): packing multiplies weights and biases by it.
constexpr float kSiluScale = -1.44269504f;

__attribute__((always_inline)) constexpr float bf16_scale(Activation a) {
  return a == Activation::silu ? kSiluScale : 1.0f;
}

}  // namespace leyolo

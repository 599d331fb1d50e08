// Activations and their derivatives in kernels. float: the exponential and the division are the fast ones of the
// hardware, a few units in the last place beside what float32 sums lose; double: exact, for gradient checks.
#pragma once

#include "core/activation.h"
#include "core/cuda.cuh"

namespace leyolo {

// 1 / (1 + exp(-x))
__device__ __forceinline__ float sigmoid_device(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
__device__ __forceinline__ double sigmoid_device(double x) { return 1.0 / (1.0 + exp(-x)); }

// x * sigmoid(x) with one division; -infinity gives NaN, as in torch.
__device__ __forceinline__ float silu_device(float x) { return __fdividef(x, 1.0f + __expf(-x)); }
__device__ __forceinline__ double silu_device(double x) { return x / (1.0 + exp(-x)); }

template <class A>
__device__ __forceinline__ A activate_device(Activation activation, A x) {
  switch (activation) {
    case Activation::silu: return silu_device(x);
    case Activation::relu: return x < A(0) ? A(0) : x;  // NaN stays
    case Activation::relu6: return x < A(0) ? A(0) : x > A(6) ? A(6) : x;
    case Activation::hardswish: return x <= A(-3) ? A(0) : x >= A(3) ? x : x * (x + A(3)) / A(6);
    default: return x;
  }
}

// d activate(x) / dx; at the kinks what torch's autograd gives.
template <class A>
__device__ __forceinline__ A activation_gradient_device(Activation activation, A x) {
  switch (activation) {
    case Activation::silu: {
      A const s = sigmoid_device(x);
      return s * (A(1) + x * (A(1) - s));
    }
    case Activation::relu: return x > A(0) ? A(1) : A(0);
    case Activation::relu6: return x > A(0) && x < A(6) ? A(1) : A(0);
    case Activation::hardswish: return x <= A(-3) ? A(0) : x < A(3) ? x / A(3) + A(0.5) : A(1);
    default: return A(1);
  }
}

}  // namespace leyolo

// Scalar helpers that the CPU and the CUDA twin of an op both compile, so that both take the same decisions.
// Always inlined: `*.simd.cpp` files use them on vectors and must leave no symbol behind.
#pragma once

#ifdef __CUDACC__
#define LEYOLO_HD __host__ __device__ __forceinline__
#else
#define LEYOLO_HD inline __attribute__((always_inline))
#endif

namespace leyolo {

// The order of the operands fixes what happens to NaN: the comparison is false, so `b` of max_of(a, b) gets lost.
template <class T>
LEYOLO_HD constexpr T max_of(T a, T b) {
  return a < b ? b : a;
}

template <class T>
LEYOLO_HD constexpr T min_of(T a, T b) {
  return b < a ? b : a;
}

}  // namespace leyolo

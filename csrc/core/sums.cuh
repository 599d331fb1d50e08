// Sums over many values, as CUDA kernels keep them in registers.
#pragma once

#include <type_traits>

#include "core/cuda.cuh"

namespace leyolo {

__device__ __forceinline__ float inverse_of(float n) { return __fdividef(1.0f, n); }
__device__ __forceinline__ double inverse_of(double n) { return 1.0 / n; }

// Count, mean and squares around it; merged by the formula of Chan, Golub and LeVeque (1979).
template <class A>
struct Moments {
  A n = 0, mean = 0, squares = 0;

  __device__ void merge(A more, A more_mean, A more_squares) {
    if (more == A(0)) return;
    A const all = n + more, d = more_mean - mean, share = more * inverse_of(all);
    mean += d * share;
    squares += more_squares + d * d * n * share;
    n = all;
  }
};

// A sum and what rounding has left over of it (Knuth, TAOCP 2, 4.2.2).
template <class A>
struct Total {
  A sum = 0, rest = 0;

  __device__ __forceinline__ void add(A x) {
    A const after = sum + x, added = after - sum;
    if constexpr (std::is_same_v<A, float>) rest += (sum - (after - added)) + (x - added);
    sum = after;
  }
  __device__ double value() const { return double(sum) + double(rest); }
};

}  // namespace leyolo

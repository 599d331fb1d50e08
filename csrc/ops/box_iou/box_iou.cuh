// Boxes from and to global memory, for the CUDA twins of the IoU family.
#pragma once

#include "core/cuda.cuh"
#include "ops/box_iou/box_iou_math.h"

namespace leyolo {

// The type in which values of storage type T are computed.
template <class T>
using iou_float = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) FourNumbers {
  T value[4];
};

// Whether all boxes of an array may be moved as a whole.
template <class T>
bool is_aligned(T const* p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(FourNumbers<T>) == 0;
}

template <class T>
__device__ __forceinline__ FourNumbers<T> load_four(T const* p, bool aligned) {
  if (aligned) return *reinterpret_cast<FourNumbers<T> const*>(p);
  return {p[0], p[1], p[2], p[3]};
}

template <class T>
__device__ __forceinline__ void store_four(T* p, bool aligned, FourNumbers<T> const& v) {
  if (aligned) {
    *reinterpret_cast<FourNumbers<T>*>(p) = v;
  } else {
    for (int i = 0; i < 4; ++i) p[i] = v.value[i];
  }
}

template <class F>
void for_kind_cuda(BoxIou kind, F&& f) {
  switch (kind) {
    case BoxIou::iou: return f(std::integral_constant<BoxIou, BoxIou::iou>());
    case BoxIou::generalized: return f(std::integral_constant<BoxIou, BoxIou::generalized>());
    case BoxIou::distance: return f(std::integral_constant<BoxIou, BoxIou::distance>());
    case BoxIou::complete: return f(std::integral_constant<BoxIou, BoxIou::complete>());
  }
}

}  // namespace leyolo

// Eight 16-bit values, or two of any type, as what a thread loads and stores at once.
#pragma once

#include <cstring>

#include "core/activation.cuh"
#include "core/cuda.cuh"

namespace leyolo {

// 16 bytes, aligned.
__device__ __forceinline__ uint4 load16(void const* p) {
#ifdef LEYOLO_CUDA_SHIM  // g++ 12 takes the alignment for that of values loaded one by one on another path
  shim::check_aligned(p);
  uint4 word;
  std::memcpy(&word, p, 16);
  return word;
#else
  return *reinterpret_cast<uint4 const*>(p);
#endif
}

template <class T>
union Eight {
  uint4 word;
  T value[8];
};

template <class T>
__device__ __forceinline__ void store8(float const (&v)[8], T* to) {
  Eight<T> all{};
#pragma unroll
  for (int i = 0; i < 8; ++i) all.value[i] = T(v[i]);
  *reinterpret_cast<uint4*>(to) = all.word;
}

template <class T>
__device__ __forceinline__ void add8(float (&v)[8], T const* from) {
  Eight<T> all{};
  all.word = *reinterpret_cast<uint4 const*>(from);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] += float(all.value[i]);
}

__device__ __forceinline__ void add8(float (&v)[8], float const* from) {
  float4 const low = reinterpret_cast<float4 const*>(from)[0], high = reinterpret_cast<float4 const*>(from)[1];
  float const r[] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] += r[i];
}

// Bias (16-byte aligned; of 8 channels that exist) and activation.
__device__ __forceinline__ void activate8(float (&v)[8], float const* bias, Activation activation) {
  float4 const low = __ldg(reinterpret_cast<float4 const*>(bias)),
               high = __ldg(reinterpret_cast<float4 const*>(bias) + 1);
  float const b[] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
  if (activation == Activation::silu) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = silu_device(v[i] + b[i]);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = activate_device(activation, v[i] + b[i]);
  }
}

// Two neighbouring values as floats.
__device__ __forceinline__ float2 load2(float const* p) { return *reinterpret_cast<float2 const*>(p); }
__device__ __forceinline__ float2 load2(__half const* p) {
  return __half22float2(*reinterpret_cast<__half2 const*>(p));
}
__device__ __forceinline__ float2 load2(__nv_bfloat16 const* p) {
  return __bfloat1622float2(*reinterpret_cast<__nv_bfloat162 const*>(p));
}
__device__ __forceinline__ void store2(float2 v, float* p) { *reinterpret_cast<float2*>(p) = v; }
__device__ __forceinline__ void store2(float2 v, __half* p) { *reinterpret_cast<__half2*>(p) = __float22half2_rn(v); }
__device__ __forceinline__ void store2(float2 v, __nv_bfloat16* p) {
  *reinterpret_cast<__nv_bfloat162*>(p) = __float22bfloat162_rn(v);
}

inline bool is_aligned(void const* p, int64_t bytes) { return reinterpret_cast<uintptr_t>(p) % uintptr_t(bytes) == 0; }

}  // namespace leyolo

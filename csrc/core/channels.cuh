// Two neighbouring channels of a channels-last map, or one, as a machine word: what a thread loads and stores at once.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/cuda.cuh"

namespace leyolo {

template <class T>
struct ChannelPair {
  using Word = unsigned;
};
template <>
struct ChannelPair<float> {
  using Word = float2;
};

// To float32 and back.
template <class T>
__device__ __forceinline__ float2 widen_pair(typename ChannelPair<T>::Word word) {
  if constexpr (std::is_same_v<T, float>) {
    return word;
  } else if constexpr (std::is_same_v<T, __half>) {
    __half2_raw raw;
    memcpy(static_cast<void*>(&raw), &word, 4);
    return __half22float2(raw);
  } else {
    __nv_bfloat162_raw raw;
    memcpy(static_cast<void*>(&raw), &word, 4);
    return __bfloat1622float2(raw);
  }
}
template <class T>
__device__ __forceinline__ typename ChannelPair<T>::Word narrow_pair(float2 pair) {
  if constexpr (std::is_same_v<T, float>) {
    return pair;
  } else {
    unsigned word;
    if constexpr (std::is_same_v<T, __half>) {
      __half2_raw const raw = __float22half2_rn(pair);
      memcpy(&word, &raw, 4);
    } else {
      __nv_bfloat162_raw const raw = __float22bfloat162_rn(pair);
      memcpy(&word, &raw, 4);
    }
    return word;
  }
}

template <class T>
__device__ __forceinline__ typename ChannelPair<T>::Word load_pair(T const* p) {
#ifdef LEYOLO_CUDA_SHIM
  shim::check_aligned(p, 2 * sizeof(T));
#endif
  return *reinterpret_cast<typename ChannelPair<T>::Word const*>(p);
}
template <class T>
__device__ __forceinline__ void store_pair(T* p, float2 pair) {
#ifdef LEYOLO_CUDA_SHIM
  shim::check_aligned(p, 2 * sizeof(T));
#endif
  *reinterpret_cast<typename ChannelPair<T>::Word*>(p) = narrow_pair<T>(pair);
}

// WIDTH (one or two) channels, computed in A: float, or double for double.
template <class T, int WIDTH>
struct Channels {
  using A = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using Word = std::conditional_t<WIDTH == 2, typename ChannelPair<T>::Word, T>;

  __device__ static __forceinline__ Word zero() {
    if constexpr (WIDTH == 2)
      return narrow_pair<T>({0, 0});
    else
      return T(0.0f);
  }
  __device__ static __forceinline__ Word load(T const* p) {
    if constexpr (WIDTH == 2)
      return load_pair(p);
    else
      return *p;
  }
  __device__ static __forceinline__ void widen(Word word, A (&to)[WIDTH]) {
    if constexpr (WIDTH == 2) {
      float2 const pair = widen_pair<T>(word);
      to[0] = pair.x, to[1] = pair.y;
    } else {
      to[0] = A(word);
    }
  }
  __device__ static __forceinline__ void store(T* p, A const (&from)[WIDTH]) {
    if constexpr (WIDTH == 2)
      store_pair(p, {from[0], from[1]});
    else
      *p = T(from[0]);
  }
};

// Whether maps of `channels` at these addresses consist of whole, aligned pairs.
template <class... P>
bool pairs_fit(int64_t channels, int64_t size, P... pointers) {
  return channels % 2 == 0 && ((reinterpret_cast<uintptr_t>(pointers) % uintptr_t(2 * size) == 0) && ...);
}

}  // namespace leyolo

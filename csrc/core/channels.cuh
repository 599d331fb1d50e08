// Two neighbouring channels of a channels-last map as one machine word: what a thread loads and stores at once.
#pragma once

#include <cstring>

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

__device__ __forceinline__ float2 widen(float2 pair) { return pair; }
template <class T>
__device__ __forceinline__ float2 widen(unsigned word) {
  T pair[2];
  memcpy(pair, &word, 4);
  return {float(pair[0]), float(pair[1])};
}
template <class T>
__device__ __forceinline__ float2 widen_pair(typename ChannelPair<T>::Word word) {
  if constexpr (sizeof(T) == 4)
    return widen(word);
  else
    return widen<T>(word);
}

template <class T>
__device__ __forceinline__ typename ChannelPair<T>::Word narrow_pair(float2 pair) {
  if constexpr (sizeof(T) == 4) {
    return pair;
  } else {
    unsigned word;
    if constexpr (std::is_same_v<T, __half>) {
      __half2 const h = __float22half2_rn(pair);
      memcpy(&word, &h, 4);
    } else {
      __nv_bfloat162 const h = __float22bfloat162_rn(pair);
      memcpy(&word, &h, 4);
    }
    return word;
  }
}

template <class T>
__device__ __forceinline__ typename ChannelPair<T>::Word load_pair(T const* p) {
  return *reinterpret_cast<typename ChannelPair<T>::Word const*>(p);
}
template <class T>
__device__ __forceinline__ void store_pair(T* p, float2 pair) {
  *reinterpret_cast<typename ChannelPair<T>::Word*>(p) = narrow_pair<T>(pair);
}

// Whether maps of `channels` at these addresses consist of whole, aligned pairs.
template <class... P>
bool pairs_fit(int64_t channels, int64_t size, P... pointers) {
  return channels % 2 == 0 && ((reinterpret_cast<uintptr_t>(pointers) % uintptr_t(2 * size) == 0) && ...);
}

}  // namespace leyolo

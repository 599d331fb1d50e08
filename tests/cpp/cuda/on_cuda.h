// Arrays as CUDA twins see them. The shim's "device memory" is the host's.
#pragma once

#include <cstring>

#include "tensor.h"

// ThreadSanitizer takes a hundred times as long, most of it for the fibers' switches, and one case of each way through
// a kernel shows its races.
#ifdef __SANITIZE_THREAD__
constexpr bool kFewCases = true;
#else
constexpr bool kFewCases = false;
#endif

inline leyolo::View on_cuda(Array const& array) {
  leyolo::View view = array.view;
  view.device = leyolo::Device::cuda;
  return view;
}

inline bool same_bits(Array const& a, Array const& b) {
  return a.view.numel() == b.view.numel() && a.view.dtype == b.view.dtype &&
         std::memcmp(a.memory.get(), b.memory.get(), size_t(a.view.numel() * size_of(a.view.dtype))) == 0;
}

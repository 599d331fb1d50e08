// Arrays as CUDA twins see them. The shim's "device memory" is the host's.
#pragma once

#include <cstring>

#include "tensor.h"

inline leyolo::View on_cuda(Array const& array) {
  leyolo::View view = array.view;
  view.device = leyolo::Device::cuda;
  return view;
}

inline bool same_bits(Array const& a, Array const& b) {
  return a.view.numel() == b.view.numel() && a.view.dtype == b.view.dtype &&
         std::memcmp(a.memory.get(), b.memory.get(), size_t(a.view.numel() * size_of(a.view.dtype))) == 0;
}

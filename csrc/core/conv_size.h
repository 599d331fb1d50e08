#pragma once

#include <cstdint>

namespace leyolo {

// Output positions of a window over `size` inputs; 0 where it does not fit.
inline int64_t conv_output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation = 1) {
  int64_t const room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 || stride < 1 ? 0 : room / stride + 1;
}

}  // namespace leyolo

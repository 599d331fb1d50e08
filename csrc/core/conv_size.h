#pragma once

#include "core/check.h"

namespace leyolo {

// Output positions of a window over `size` inputs; 0 where it does not fit.
inline int64_t conv_output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation = 1) {
  int64_t const room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 || stride < 1 ? 0 : room / stride + 1;
}

// Before anything is computed with them: kernels hold these as int, and the sizes above must not overflow.
inline void check_window(char const* op, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation = 1) {
  constexpr int64_t kMost = 1 << 20;
  check(kernel > 0 && kernel <= kMost && stride > 0 && stride <= kMost && dilation > 0 && dilation <= kMost &&
            padding >= 0 && padding <= kMost,
        op, ": kernel, stride and dilation must be positive, padding not negative, and all at most ", kMost,
        ", got kernel ", kernel, ", stride ", stride, ", padding ", padding, ", dilation ", dilation);
}

}  // namespace leyolo

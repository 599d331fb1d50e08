// Shared with nms.exact.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// Kept boxes, a structure of arrays.
struct NmsKept {
  float const *x1, *y1, *x2, *y2, *area;
  long long count;
};

struct NmsBox {
  float x1, y1, x2, y2, area;
};

}  // namespace leyolo

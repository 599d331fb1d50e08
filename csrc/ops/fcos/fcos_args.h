// Shared with fcos.exact.simd.cpp, hence no standard header.
#pragma once

#include "ops/fcos/fcos_math.h"

namespace leyolo {

// owner[i] = ground truth of anchor i or -1, for i in [begin, end); both are multiples of kPad.
struct FcosArgs {
  float const *x, *y, *radius;  // of the anchors: centre, half side of the square
  float const *low, *high;      // of the anchors' levels: the largest side distance lies in [low, high]
  Rows targets;
  long long target_count;
  long long begin, end;
  int* owner;
};

}  // namespace leyolo

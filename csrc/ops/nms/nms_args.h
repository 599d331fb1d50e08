// Shared with nms.exact.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// Boxes of one class in descending order of score, as planes; the kept ones are collected the same way.
struct NmsArgs {
  float const *x1, *y1, *x2, *y2, *area;
  float *kept_x1, *kept_y1, *kept_x2, *kept_y2, *kept_area;
  long long* kept;  // positions of the kept boxes
  long long count;  // boxes
  long long most;   // stop after so many are kept
  float threshold;  // suppress where the IoU is above it: the float32 below or at the double that was asked for
};

}  // namespace leyolo

// Shared with select.exact.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// The `count` smallest entries of row[0, size) in ascending order, equal ones in the order of the row; what is
// +infinity or NaN is never taken. Returns how many were found.
struct SelectArgs {
  float const* row;
  long long size;
  long long count;
  float* values;  // [count]
  int* indices;   // [count]
};

}  // namespace leyolo

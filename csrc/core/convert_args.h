// Shared with convert.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

struct ConvertArgs {
  void const* from;
  void* to;
  long long count;
};

}  // namespace leyolo

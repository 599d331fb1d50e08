// Shared with image.bf16.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

struct ImageBf16Args {
  void const* x;      // [pixels, 3] float32 in 0..1, or bytes
  unsigned short* y;  // [pixels, 4] bfloat16 in 0..255, the last channel zero
  long long pixels;
};

}  // namespace leyolo

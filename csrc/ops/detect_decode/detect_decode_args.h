// Shared with detect_decode.exact.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// Which of `count` anchors may have a candidate: some class logit >= limit and, where a row has an objectness logit, it
// is >= limit as well. A NaN limit lets none pass.
struct DetectScanArgs {
  float const* rows;  // [count, pitch]
  long long count, pitch;
  int first_class, classes;
  int objectness;  // its channel, or -1
  float limit;
  unsigned char* hit;  // [count] 0 or 1
};

}  // namespace leyolo

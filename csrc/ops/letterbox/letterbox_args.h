// Shared with letterbox.exact.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

// Horizontal pass over one source row: to[4 * x + c] = (row[3 * at[x] + c] * w0 + row[3 * (at[x] + 1) + c] * w1) >> 4,
// with the weights of x, (w0, w1) in units of 1 / 2048, in the low and the high half of weights[x]. Lane 3 is unused.
struct ResizeRowArgs {
  unsigned char const* row;  // [width, 3]
  int width, count;          // source and resized pixels
  int const* at;             // [count], ascending
  unsigned const* weights;   // [count]
  short* to;                 // [count, 4]
};

// Vertical pass over two such rows: to[3 * x + c] = (((upper * w0) >> 16) + ((lower * w1) >> 16) + 2) >> 2.
struct BlendRowsArgs {
  short const *upper, *lower;  // [count, 4]
  int w0, w1, count;
  bool swap_rb;
  unsigned char* to;  // [count, 3]
};

// Means of 2 x 2 pixels: to[3 * x + c] = (sum of the four + 2) >> 2.
struct HalveRowsArgs {
  unsigned char const *upper, *lower;  // [2 * count, 3]
  int count;
  bool swap_rb;
  unsigned char* to;  // [count, 3]
};

}  // namespace leyolo

// Several layers row by row: a band of the last layer's output at a time, and of each layer before it only the rows
// that the band needs. Their outputs live in windows of a few rows that stay in the cache, instead of whole maps that
// do not. The order of the sums of a pixel does not change, so the result is the same to the bit.
#pragma once

#include "core/context.h"

namespace leyolo {

struct StreamLayer {
  int64_t out_height;
  int64_t kernel, stride, padding;  // over the rows of its input
  int64_t row_bytes;                // of its output, dense; not used for the last layer
  int64_t window_rows;              // of its output that are kept; not used for the last layer
  // Output rows [begin, end); x and y point to where row 0 of a whole map would lie.
  void (*run)(void const* layer, char const* x, char* y, int64_t begin, int64_t end);
  void const* layer;
};

// Rows of a layer's output that must be there at once for `rows` rows of the layer after it.
inline int64_t stream_rows(int64_t rows, int64_t kernel, int64_t stride) { return (rows - 1) * stride + kernel; }

// Of all windows of one piece.
inline int64_t stream_window_bytes(StreamLayer const* layers, int count) {
  int64_t bytes = 0;
  for (int i = 0; i < count - 1; ++i) bytes += layers[i].window_rows * layers[i].row_bytes;
  return bytes;
}

// x: whole input of the first layer; y: whole output of the last one. `pieces`: how many threads may share the work,
// each with windows of its own (`window_bytes` in all for one piece, one layer's after another); where one thread runs
// neighbouring pieces, no row is computed twice.
void stream(StreamLayer const* layers, int count, char const* x, char* y, int64_t band, int64_t pieces, char* windows,
            int64_t window_bytes, Context const& context);

}  // namespace leyolo

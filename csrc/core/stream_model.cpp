#include "core/stream_model.h"

#include <algorithm>

namespace leyolo {

int64_t StreamModel::windows(StreamLayer* layers, int count) const {
  for (int64_t band : {8, 4, 2, 1}) {
    int64_t rows = band;
    for (int i = count - 1; i > 0; --i) {
      rows = stream_rows(rows, layers[i].kernel, layers[i].stride);
      // Twice what is needed: the rows that stay are moved to the front only every other time.
      layers[i - 1].window_rows = std::min(2 * rows, layers[i - 1].out_height);
    }
    if (share == 0 || double(stream_window_bytes(layers, count)) <= share * double(cache_bytes)) return band;
  }
  return 0;
}

}  // namespace leyolo

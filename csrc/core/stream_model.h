// Which maps between layers are made row by row (core/stream.h), and in which windows. One rule for all who ask:
// `inverted_bottleneck`, and through leyolo._C the chains of `forward`.
#pragma once

#include "core/cache.h"
#include "core/stream.h"

namespace leyolo {

struct StreamModel {
  int64_t cache_bytes = cache_sizes().l2;
  // Of the cache that windows may take. A map is streamed if it takes more than twice as much: then it goes out to the
  // shared cache and back, which costs more than moving rows within windows. 0: every map is streamed, whatever its
  // windows take; infinite: none is.
  double share = 0.75;

  bool leaves(int64_t map_bytes) const { return double(map_bytes) > 2 * share * double(cache_bytes); }

  // Sets the window_rows of all layers but the last. Returns the rows of a band: the most for which all windows fit,
  // 0 where not even those of one row do.
  int64_t windows(StreamLayer* layers, int count) const;
};

}  // namespace leyolo

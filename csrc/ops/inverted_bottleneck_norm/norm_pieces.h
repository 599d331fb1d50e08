// A map in pieces that depend on its shape alone, so that sums do not depend on the number of threads.
#pragma once

#include <algorithm>

#include "core/context.h"

namespace leyolo {

constexpr int64_t kNormPieces = 32;  // wanted: more threads than that find no work

// Pieces that are worked on at the same time, each with scratch memory of its own.
inline int64_t norm_slots(Context const& context, int64_t pieces) {
  return std::clamp<int64_t>(context.threads, 1, std::max<int64_t>(1, pieces));
}

// f(piece, slot) for every piece; calls with the same slot follow one another.
template <class F>
void each_norm_piece(Context const& context, int64_t pieces, F&& f) {
  int64_t const slots = norm_slots(context, pieces);
  parallel_for(context, 0, slots, 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot)
      for (int64_t i = slot * pieces / slots; i < (slot + 1) * pieces / slots; ++i) f(i, slot);
  });
}

}  // namespace leyolo

// Our own threads, for callers that bring none (numpy). The torch binding uses torch's.
#pragma once

#include "core/context.h"

namespace leyolo {

void own_pool(int64_t begin, int64_t end, int64_t grain, Body body, void* state);

// LEYOLO_NUM_THREADS, else OMP_NUM_THREADS, else the processors that this process may use.
int num_threads();
void set_num_threads(int n);

}  // namespace leyolo

// The machine's caches, for the kernels' byte models.
#pragma once

#include <cstdint>

namespace leyolo {

// Bytes per core, as the system says; 32 KiB and 512 KiB where it does not.
int64_t l1_bytes();
int64_t l2_bytes();
int64_t l3_bytes();  // of the whole slice, shared by its cores; 0: none, or hidden

}  // namespace leyolo

// The machine's cache, for the kernels' byte models.
#pragma once

#include <cstdint>

namespace leyolo {

// Bytes of the second-level cache of a core, as the system says; 512 KiB where it does not.
int64_t l2_bytes();

}  // namespace leyolo

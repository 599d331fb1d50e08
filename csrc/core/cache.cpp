#include "core/cache.h"

#include <unistd.h>

namespace leyolo {

int64_t l2_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  if (long const bytes = sysconf(_SC_LEVEL2_CACHE_SIZE); bytes > 0) return bytes;
#endif
  return 512 << 10;
}

}  // namespace leyolo

#include "core/cache.h"

#include <unistd.h>

namespace leyolo {

static int64_t asked(int name, int64_t otherwise) {
  long const bytes = sysconf(name);
  return bytes > 0 ? bytes : otherwise;
}

#if defined(_SC_LEVEL1_DCACHE_SIZE)
int64_t l1_bytes() { return asked(_SC_LEVEL1_DCACHE_SIZE, 32 << 10); }
int64_t l2_bytes() { return asked(_SC_LEVEL2_CACHE_SIZE, 512 << 10); }
int64_t l3_bytes() { return asked(_SC_LEVEL3_CACHE_SIZE, 0); }
#else
int64_t l1_bytes() { return 32 << 10; }
int64_t l2_bytes() { return 512 << 10; }
int64_t l3_bytes() { return 0; }
#endif

}  // namespace leyolo

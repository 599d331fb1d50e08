// Cache sizes of this machine, for the byte models of kernels that choose what to keep where.
#pragma once

#include <cstdint>
#include <vector>

namespace leyolo {

// In bytes. Of a level that several cores share, l1d and l2 are one core's part, l3 is the whole.
struct CacheSizes {
  int64_t l1d = 32 << 10, l2 = 512 << 10, l3 = 0;  // what is assumed where the system does not say; 0: no such level
  int l3_cores = 1;                                // physical cores that share it
};

// As the system tells it for the first processor that this process may use; read once. Containers hide the sizes at
// times, and a virtual machine does not say which of its neighbours fill the same l3.
CacheSizes const& cache_sizes();

// The same for one processor, from a folder in the layout of /sys/devices/system/cpu; tests bring their own.
CacheSizes read_cache_sizes(char const* folder, int processor);

// The processors that this process may use, one of every physical core first. Empty where the system does not say.
std::vector<int> allowed_processors();

}  // namespace leyolo

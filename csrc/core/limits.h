// What this machine can do at most, measured: the ceilings that kernels are held against.
#pragma once

#include <vector>

#include "core/context.h"

namespace leyolo {

struct Bandwidth {
  char const* level;    // "L1", "L2", "L3" (left out where the machine shows none) or "DRAM"
  int64_t working_set;  // bytes per thread that were read; a copy takes half of them as its source
  double read, copy;    // bytes per second of all threads together; a copied byte counts twice, read and written
};

struct MachineLimits {
  double flops;  // float32 per second in fused multiply-adds (two each) on the instruction set in use, all threads
  std::vector<Bandwidth> levels;
};

// Takes about `seconds`, beside the memory's first use. The best of many short turns, so that a passing disturbance
// does not count. Needs `threads` threads of `context` at the same time, else it is an error.
MachineLimits machine_limits(int threads, double seconds, Context const& context);

}  // namespace leyolo

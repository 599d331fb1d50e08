// Runs the bodies of CUDA kernels on the CPU, for tests: every CUDA thread is a fiber, blocks run one after another,
// and a fiber runs until it waits in a barrier. core/cuda.cuh includes this file under LEYOLO_CUDA_SHIM; the .cu files
// are then compiled by the C++ compiler, and kernels read as they do for nvcc.
//
// LEYOLO_SHIM_SEED=n (0: threads and blocks in order) shuffles the order of the threads that may run, and of the
// blocks. LEYOLO_SHIM_RECORD=file collects which kernels have run. Fresh shared memory holds 0xff
// (NaN). Wrong use of barriers ends the program with a message that names the lines.
//
// Under ThreadSanitizer only barriers, fences and the ends of launches order anything: a race between two CUDA threads
// is reported by its lines. Atomics order something only together with __threadfence(): "write, fence, atomic" in the
// writers and "atomic, fence, read" in the last block.
//
// Instructions of a whole warp (mma, ldmatrix) are written with shim::Exchange: every lane brings a value, waits for
// the others named in the mask, and may then read what each of them brought:
//   shim::Exchange<Fragment> all(0xffffffffu, mine);  // a barrier of these lanes
//   float const of_lane_5 = all[5].a[0];              // alive until `all` goes
// Lanes that have exited, or that the block does not have, count as arrived; what they "brought" reads as 0xff bytes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

namespace shim {

struct Copy {
  void* to;
  void const* from;
  bool valid;
  unsigned group;
};

struct Thread {
  uint3 index{};
  unsigned rank = 0;  // within the block
  bool fenced = false;
  void* atomic = nullptr;    // the last one since then
  std::vector<Copy> copies;  // asynchronous ones that nobody has waited for
  unsigned copy_group = 0;
};

struct Grid {
  dim3 grid, block;
  uint3 index{};  // of the block that runs now
};

extern Thread* running;
extern Grid grid;

inline unsigned lane() { return running->rank % 32; }

// Runs body(state) once per CUDA thread; throws std::runtime_error where a GPU would refuse the launch.
void run(char const* name, void const* kernel, dim3 grid, dim3 block, size_t shared, void (*body)(void*), void* state);

// Shared memory of the running block: the same for all its threads, filled with 0xff when the first one asks.
void* shared_memory(void const* key, size_t bytes);
void* dynamic_shared_memory();

void sync_block(char const* file, int line);
int sync_block_count(bool vote, char const* file, int line);
void fence();
#ifdef __SANITIZE_THREAD__
void order_atomic(void* address);
#else
inline void order_atomic(void*) {}
#endif

constexpr size_t kSlot = 64;  // bytes that a lane can bring
struct Group;
Group* join(unsigned mask, void const* mine, size_t bytes, char const* file, int line);
bool brought(Group const* group, unsigned lane);
void read(Group const* group, unsigned lane, void* to, size_t bytes);
void leave(Group* group);

template <class T>
class Exchange {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kSlot);

 public:
  Exchange(unsigned mask, T const& mine, char const* file = __builtin_FILE(), int line = __builtin_LINE())
      : group_(join(mask, &mine, sizeof(T), file, line)) {}
  Exchange(Exchange const&) = delete;
  ~Exchange() { leave(group_); }

  bool has(unsigned lane) const { return brought(group_, lane); }
  T operator[](unsigned lane) const {
    T value;
    read(group_, lane, &value, sizeof(T));
    return value;
  }

 private:
  Group* group_;
};

// What a GPU faults on.
inline void check_aligned(void const* p, size_t bytes = 16) {
  if (reinterpret_cast<uintptr_t>(p) % bytes == 0) return;
  std::fprintf(stderr, "CUDA shim: an access of %zu bytes at an address that is no multiple of that\n", bytes);
  std::abort();
}

// An asynchronous copy of 16 bytes takes effect as late as it may: until the thread waits, its target holds 0xff.
inline void copy_async(void* to, void const* from, bool valid) {
  check_aligned(to);
  if (valid) check_aligned(from);
  std::memset(to, 0xff, 16);
  running->copies.push_back({to, from, valid, running->copy_group});
}
// Does the copies of all closed groups but the last `groups`.
inline void copy_async_wait(unsigned groups) {
  std::erase_if(running->copies, [&](Copy const& c) {
    if (c.group + groups >= running->copy_group) return false;
    if (c.valid)
      std::memcpy(c.to, c.from, 16);
    else
      std::memset(c.to, 0, 16);
    return true;
  });
}

}  // namespace shim

#undef __launch_bounds__
#undef __grid_constant__
#undef __constant__
#undef __shared__
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__
#define __shared__ "use LEYOLO_SHARED or LEYOLO_DYNAMIC_SHARED"

#define threadIdx (::shim::running->index)
#define blockIdx (::shim::grid.index)
#define blockDim (::shim::grid.block)
#define gridDim (::shim::grid.grid)
#define warpSize 32

#define SHIM_HERE char const *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SHIM_HERE) { shim::sync_block(file, line); }
inline int __syncthreads_count(int vote, SHIM_HERE) { return shim::sync_block_count(vote != 0, file, line); }
inline int __syncthreads_or(int vote, SHIM_HERE) { return shim::sync_block_count(vote != 0, file, line) != 0; }
inline int __syncthreads_and(int vote, SHIM_HERE) { return shim::sync_block_count(vote == 0, file, line) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu, SHIM_HERE) {
  shim::leave(shim::join(mask, nullptr, 0, file, line));
}
inline void __threadfence() { shim::fence(); }
inline void __threadfence_block() { shim::fence(); }

// `width` splits the warp into groups of that many lanes, as in CUDA.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SHIM_HERE) {
  unsigned const first = shim::lane() & ~unsigned(width - 1);
  return shim::Exchange<T>(mask, value, file, line)[first + (unsigned(source) & unsigned(width - 1))];
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SHIM_HERE) {
  unsigned const lane = shim::lane(), source = lane ^ unsigned(bits);
  shim::Exchange<T> all(mask, value, file, line);
  return source <= (lane | unsigned(width - 1)) ? all[source] : value;
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SHIM_HERE) {
  unsigned const lane = shim::lane();
  shim::Exchange<T> all(mask, value, file, line);
  return (lane & unsigned(width - 1)) >= delta ? all[lane - delta] : value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SHIM_HERE) {
  unsigned const lane = shim::lane();
  shim::Exchange<T> all(mask, value, file, line);
  return (lane & unsigned(width - 1)) + delta < unsigned(width) ? all[lane + delta] : value;
}

inline unsigned __ballot_sync(unsigned mask, int vote, SHIM_HERE) {
  shim::Exchange<bool> all(mask, vote != 0, file, line);
  unsigned bits = 0;
  for (unsigned l = 0; l < 32; ++l) bits |= unsigned(all.has(l) && all[l]) << l;
  return bits;
}
inline int __any_sync(unsigned mask, int vote, SHIM_HERE) { return __ballot_sync(mask, vote, file, line) != 0; }
inline int __all_sync(unsigned mask, int vote, SHIM_HERE) { return __ballot_sync(mask, !vote, file, line) == 0; }
inline unsigned __activemask() = delete;  // what it answers is left open by CUDA: pass the mask

#undef SHIM_HERE

// Relaxed, as on the GPU: they order nothing else.
template <class T, class F>
T shim_atomic(T* address, F&& next) {
  shim::order_atomic(address);
  T before;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  T after = next(before);
  while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    after = next(before);
  return before;
}
#define SHIM_ATOMIC(name, T, expression)                                     \
  inline T name(T* address, T value) {                                       \
    return shim_atomic(address, [value](T old) -> T { return expression; }); \
  }
#define SHIM_ATOMIC_INTEGERS(name, expression) \
  SHIM_ATOMIC(name, int, expression)           \
  SHIM_ATOMIC(name, unsigned, expression)      \
  SHIM_ATOMIC(name, unsigned long long, expression)
SHIM_ATOMIC_INTEGERS(atomicAdd, old + value)
SHIM_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
SHIM_ATOMIC_INTEGERS(atomicMax, old < value ? value : old)
SHIM_ATOMIC_INTEGERS(atomicOr, old | value)
SHIM_ATOMIC_INTEGERS(atomicAnd, old& value)
SHIM_ATOMIC_INTEGERS(atomicXor, old ^ value)
SHIM_ATOMIC_INTEGERS(atomicExch, ((void)old, value))
SHIM_ATOMIC(atomicSub, int, old - value)
SHIM_ATOMIC(atomicSub, unsigned, old - value)
SHIM_ATOMIC(atomicMin, long long, value < old ? value : old)
SHIM_ATOMIC(atomicMax, long long, old < value ? value : old)
SHIM_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
SHIM_ATOMIC(atomicAdd, float, old + value)
SHIM_ATOMIC(atomicAdd, double, old + value)
SHIM_ATOMIC(atomicExch, float, ((void)old, value))
#undef SHIM_ATOMIC_INTEGERS
#undef SHIM_ATOMIC
template <class T>
T atomicCAS(T* address, T expected, T value) {
  shim::order_atomic(address);
  __atomic_compare_exchange(address, &expected, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

#include "cuda_shim_math.h"

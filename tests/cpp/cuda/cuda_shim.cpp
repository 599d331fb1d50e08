// Fibers and their scheduler. One launch at a time; all state is global.
#include "cuda_shim.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_shim_sanitizers.h"

#if !defined(__x86_64__)
#error "the CUDA shim's switch between fibers is written for x86-64 only"
#endif

// Saves what a call preserves, changes the stack, and returns into whoever saved last there.
extern "C" void leyolo_shim_switch(void** save, void* load) __attribute__((visibility("hidden")));
asm(R"(
  .text
  .hidden leyolo_shim_switch
  .globl leyolo_shim_switch
  .type leyolo_shim_switch, @function
leyolo_shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size leyolo_shim_switch, .-leyolo_shim_switch
)");

namespace shim {

Thread* running;
Grid grid;

struct Group {
  unsigned mask, arrived, readers;
  char const* file;
  int line;
  alignas(16) char slot[32][kSlot];
};

namespace {

constexpr size_t kStack = 256 << 10;  // only what is touched takes memory
// What the smallest of the shipped architectures (86, 89, 120) gives to a block.
constexpr size_t kSharedPerBlock = 99 << 10;

struct Fiber : Thread {
  void* stack_pointer = nullptr;
  StackOfFiber stack;
  Group* group = nullptr;  // waited for
};

struct Warp {
  unsigned exited = 0;  // also the lanes that never were
  std::vector<Group*> open;
  std::vector<Fiber*> waiting;
};

struct SharedArray {
  void const* key;
  char* data;
  size_t bytes;
};

struct Block {
  unsigned alive = 0;
  std::vector<Fiber*> waiting;  // in __syncthreads
  char const* file = nullptr;
  int line = 0;
  unsigned barriers = 0;  // passed so far
  int votes[2] = {};
  std::unique_ptr<char[]> tags;  // two for ThreadSanitizer: of this barrier and of the next
  std::vector<Warp> warps;
  std::vector<SharedArray> shared;
  size_t dynamic = 0, static_bytes = 0;
};

struct Launch {
  char const* name;
  void (*body)(void*);
  void* state;
  std::unique_ptr<char[]> tags{new char[2]()};  // begin, end
};

std::vector<std::unique_ptr<Fiber>> pool;
size_t cursor = 0;
std::vector<std::unique_ptr<Group>> groups;  // not in use
std::vector<Fiber*> ready;
size_t ready_begin = 0;
Fiber host;
Block block;
Launch* launch = nullptr;
std::mt19937 random_engine;
bool shuffled = false;

[[noreturn]] void die(std::string const& what) {
  std::fprintf(stderr, "CUDA shim: %s, block (%u, %u, %u): %s\n", launch->name, grid.index.x, grid.index.y,
               grid.index.z, what.c_str());
  std::fflush(nullptr);
  std::abort();
}

std::string place(char const* file, int line) { return std::string(file) + ":" + std::to_string(line); }

[[noreturn]] void die_of_deadlock() {
  std::string text = "the block is stuck:";
  if (!block.waiting.empty())
    text += " " + std::to_string(block.waiting.size()) + " threads wait in __syncthreads of " +
            place(block.file, block.line) + ";";
  for (Warp const& warp : block.warps)
    for (Group const* group : warp.open)
      text += " lanes " + std::to_string(group->arrived) + " of mask " + std::to_string(group->mask) + " wait in " +
              place(group->file, group->line) + ";";
  die(text);
}

Fiber* next_ready() {
  if (ready_begin == ready.size()) return &host;
  if (shuffled) std::swap(ready[ready_begin], ready[ready_begin + random_engine() % (ready.size() - ready_begin)]);
  Fiber* const next = ready[ready_begin++];
  if (ready_begin == ready.size()) ready.clear(), ready_begin = 0;
  return next;
}

void switch_from(Fiber& from) {
  Fiber& to = *next_ready();
  if (&to == &from) return;
  running = &to;
  from.stack.before_switch_to(to.stack);
  leyolo_shim_switch(&from.stack_pointer, to.stack_pointer);
  from.stack.after_switch_back(host.stack);
}

void release_block() {
  ready.insert(ready.end(), block.waiting.begin(), block.waiting.end());
  block.waiting.clear();
  block.votes[++block.barriers % 2] = 0;
}

bool complete(Group const& group, Warp const& warp) {
  return ((group.arrived | warp.exited) & group.mask) == group.mask;
}

void release_group(Warp& warp, size_t index) {
  Group* const group = warp.open[index];
  warp.open.erase(warp.open.begin() + ptrdiff_t(index));
  std::erase_if(warp.waiting, [&](Fiber* fiber) {
    if (fiber->group == group) ready.push_back(fiber);
    return fiber->group == group;
  });
}

void exit_thread(Fiber& self) {
  Warp& warp = block.warps[self.rank / 32];
  warp.exited |= 1u << self.rank % 32;
  for (size_t i = warp.open.size(); i-- > 0;)
    if (complete(*warp.open[i], warp)) release_group(warp, i);
  if (--block.alive == block.waiting.size() && block.alive) release_block();
}

void fiber_main() {
  Fiber& self = *static_cast<Fiber*>(running);
  self.stack.after_switch_back(host.stack);
  for (;;) {
    Launch const* current;
    {
      Quiet const quiet;
      current = launch;
      acquire(&current->tags[0]);
    }
    current->body(current->state);
    Quiet const quiet;
    release(&current->tags[1]);
    exit_thread(self);
    switch_from(self);
  }
}

std::unique_ptr<Fiber> new_fiber() {
  auto fiber = std::make_unique<Fiber>();
  void* const memory =
      mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, 4096, PROT_NONE);
  fiber->stack.create(memory, kStack);
  auto const top = reinterpret_cast<void**>(static_cast<char*>(memory) + kStack);
  top[-2] = reinterpret_cast<void*>(&fiber_main);  // 8 bytes below a multiple of 16 when it begins, as after a call
  fiber->stack_pointer = top - 8;
  return fiber;
}

void run_block() {
  unsigned const n = grid.block.x * grid.block.y * grid.block.z;
  block.alive = n;
  block.tags.reset(new char[2]);
  block.barriers = 0;
  block.votes[0] = block.votes[1] = 0;
  block.static_bytes = 0;
  block.warps.resize((n + 31) / 32);
  for (Warp& warp : block.warps) warp.exited = 0;
  if (n % 32) block.warps.back().exited = ~0u << n % 32;
  for (unsigned i = 0; i < n; ++i) {
    Fiber& fiber = *pool[(cursor + i) % pool.size()];
    fiber.index = {i % grid.block.x, i / grid.block.x % grid.block.y, i / (grid.block.x * grid.block.y)};
    fiber.rank = i, fiber.fenced = false, fiber.atomic = nullptr;
    fiber.copies.clear(), fiber.copy_group = 0;
    ready.push_back(&fiber);
  }
  cursor += n;
  switch_from(host);
  if (block.alive) die_of_deadlock();
  for (SharedArray const& array : block.shared) std::free(array.data);
  block.shared.clear();
}

void check_launch(char const* name, dim3 blocks, dim3 threads, size_t shared) {
  auto const refuse = [&](char const* why) {
    throw std::runtime_error(std::string(name) + ": invalid launch, " + why + ": grid " + std::to_string(blocks.x) +
                             ", " + std::to_string(blocks.y) + ", " + std::to_string(blocks.z) + ", block " +
                             std::to_string(threads.x) + ", " + std::to_string(threads.y) + ", " +
                             std::to_string(threads.z) + ", shared " + std::to_string(shared));
  };
  if (!blocks.x || !blocks.y || !blocks.z || !threads.x || !threads.y || !threads.z) refuse("a size of 0");
  if (blocks.x > 0x7fffffffu || blocks.y > 65535 || blocks.z > 65535) refuse("the grid is too large");
  if (threads.x > 1024 || threads.y > 1024 || threads.z > 64 || uint64_t(threads.x) * threads.y * threads.z > 1024)
    refuse("the block is too large");
  if (shared > kSharedPerBlock) refuse("more shared memory than sm_86, 89 and 120 have");
}

// Appends which kernels have run to the file that LEYOLO_SHIM_RECORD names: binary and address, for nm.
void record(void const* kernel) {
  static char const* const file = std::getenv("LEYOLO_SHIM_RECORD");
  static std::set<void const*> known;
  Dl_info place;
  if (!file || !known.insert(kernel).second || !dladdr(kernel, &place)) return;
  if (std::FILE* const out = std::fopen(file, "a")) {
    auto const offset = static_cast<char const*>(kernel) - static_cast<char const*>(place.dli_fbase);
    std::fprintf(out, "%s\t%tx\n", place.dli_fname, offset);
    std::fclose(out);
  }
}

}  // namespace

void run(char const* name, void const* kernel, dim3 blocks, dim3 threads, size_t shared, void (*body)(void*),
         void* state) {
  static std::mutex mutex;
  std::lock_guard const lock(mutex);
  check_launch(name, blocks, threads, shared);
  Quiet const quiet;
  record(kernel);
  char const* const seed = std::getenv("LEYOLO_SHIM_SEED");
  unsigned const start = seed ? unsigned(std::atoi(seed)) : 0;
  shuffled = start != 0;
  random_engine.seed(start);
  host.stack.create_of_thread();
  size_t const n = threads.x * threads.y * threads.z;
  // For ThreadSanitizer a fiber is one thread for ever: thread i of the next block must get another one.
  for (size_t const wanted = kThreadSanitizer ? 2 * n + 1 : n; pool.size() < wanted;) pool.push_back(new_fiber());
  Launch current{name, body, state};
  launch = &current;
  grid = {blocks, threads, {}};
  block.dynamic = shared;
  release(&current.tags[0]);
  uint64_t const total = uint64_t(blocks.x) * blocks.y * blocks.z;
  // Shuffled blocks: step through them by a stride that shares no factor with their number.
  uint64_t stride = 1, at = 0;
  if (shuffled && total > 2) {
    at = random_engine() % total;
    do stride = 1 + random_engine() % (total - 1);
    while (std::gcd(stride, total) != 1);
  }
  for (uint64_t i = 0; i < total; ++i, at = (at + stride) % total) {
    grid.index = {unsigned(at % blocks.x), unsigned(at / blocks.x % blocks.y), unsigned(at / blocks.x / blocks.y)};
    run_block();
  }
  acquire(&current.tags[1]);
  launch = nullptr;
}

void* shared_memory(void const* key, size_t bytes) {
  for (SharedArray const& array : block.shared)
    if (array.key == key) return array.data;
  Quiet const quiet;
  if (key != &block.dynamic) block.static_bytes += bytes;
  if (block.static_bytes > 48 << 10) die("more than 48 KB of static shared memory");
  if (block.static_bytes + block.dynamic > kSharedPerBlock) die("more shared memory than sm_86, 89 and 120 have");
  void* data = nullptr;
  if (posix_memalign(&data, 128, bytes)) throw std::bad_alloc();  // exactly: AddressSanitizer watches its end
  std::memset(data, 0xff, bytes);
  block.shared.push_back({key, static_cast<char*>(data), bytes});
  return data;
}

void* dynamic_shared_memory() { return shared_memory(&block.dynamic, block.dynamic); }

void sync_block(char const* file, int line) { sync_block_count(false, file, line); }

int sync_block_count(bool vote, char const* file, int line) {
  Quiet const quiet;
  Fiber& self = *static_cast<Fiber*>(running);
  if (block.waiting.empty())
    block.file = file, block.line = line;
  else if (block.line != line || std::strcmp(block.file, file) != 0)
    die("threads wait in __syncthreads of " + place(block.file, block.line) + " and of " + place(file, line));
  unsigned const parity = block.barriers % 2;
  block.votes[parity] += vote;
  release(&block.tags[parity]);
  block.waiting.push_back(&self);
  if (block.waiting.size() == block.alive) release_block();
  switch_from(self);
  acquire(&block.tags[parity]);
  return block.votes[parity];
}

void fence() {
  Quiet const quiet;
  running->fenced = true;
  if (running->atomic) acquire(running->atomic);
  running->atomic = nullptr;
}

#ifdef __SANITIZE_THREAD__
void order_atomic(void* address) {
  Quiet const quiet;
  if (running->fenced) release(address);
  running->atomic = address;
}
#endif

Group* join(unsigned mask, void const* mine, size_t bytes, char const* file, int line) {
  Quiet const quiet;
  Fiber& self = *static_cast<Fiber*>(running);
  Warp& warp = block.warps[self.rank / 32];
  unsigned const bit = 1u << self.rank % 32;
  if (!(mask & bit)) die("lane " + std::to_string(self.rank % 32) + " is not in its own mask at " + place(file, line));
  size_t index = 0;
  while (index < warp.open.size() && warp.open[index]->mask != mask) ++index;
  if (index == warp.open.size()) {
    if (groups.empty()) groups.push_back(std::make_unique<Group>());
    Group* const fresh = groups.back().release();
    groups.pop_back();
    fresh->mask = mask, fresh->arrived = fresh->readers = 0, fresh->file = file, fresh->line = line;
    warp.open.push_back(fresh);
  }
  Group* const group = warp.open[index];
  if (group->line != line || std::strcmp(group->file, file) != 0)
    die("lanes of a warp wait in " + place(group->file, group->line) + " and in " + place(file, line));
  group->arrived |= bit;
  ++group->readers;
  if (bytes) std::memcpy(group->slot[self.rank % 32], mine, bytes);
  release(group);
  self.group = group;
  warp.waiting.push_back(&self);
  if (complete(*group, warp)) release_group(warp, index);
  switch_from(self);
  acquire(group);
  return group;
}

bool brought(Group const* group, unsigned lane) { return group->arrived >> lane & 1u; }

void read(Group const* group, unsigned lane, void* to, size_t bytes) {
  Quiet const quiet;
  if (lane < 32 && brought(group, lane))
    std::memcpy(to, group->slot[lane], bytes);
  else
    std::memset(to, 0xff, bytes);
}

void leave(Group* group) {
  Quiet const quiet;
  if (--group->readers) return;
  std::unique_ptr<Group> owned(group);
  if (!kThreadSanitizer) groups.push_back(std::move(owned));  // a fresh one has no history
}

}  // namespace shim

// The parts of the runtime that the host side of an op may call.
extern "C" {
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, void const* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  switch (which) {
    case cudaDevAttrMultiProcessorCount: *value = 4; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(shim::kSharedPerBlock); return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; return cudaSuccess;
    default: return cudaErrorInvalidValue;
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
char const* cudaGetErrorString(cudaError_t) { return "an error of the CUDA shim"; }
}

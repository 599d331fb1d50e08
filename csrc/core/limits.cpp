#include "core/limits.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>

#include "core/cache.h"
#include "core/check.h"
#include "core/isa.h"
#include "core/limits_args.h"

namespace leyolo {

LEYOLO_SIMD(long long limits_fma(long long rounds, float* sink))
LEYOLO_SIMD(void limits_read(float const* from, long long count, long long passes, float* sink))
LEYOLO_SIMD(void limits_copy(float const* from, float* to, long long count, long long passes))

namespace {

constexpr double kTurn = 1e-3;  // seconds: long beside the start of the threads, short beside a time slice
constexpr int kRounds = 3;      // at least
constexpr int64_t kBlock = kLimitsBlock * 4;

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

int64_t whole_blocks(int64_t bytes) { return std::max<int64_t>(1, bytes / kBlock) * kBlock; }

// One block for all threads, `size` bytes each, in large pages where the system gives them: else the walks through the
// page tables would be measured too.
class Memory {
 public:
  Memory(int64_t size, int threads) : size_(size), total_(size_t(size) * size_t(threads)) {
    base_ = mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(base_, total_, MADV_HUGEPAGE);
#endif
  }
  ~Memory() { munmap(base_, total_); }
  Memory(Memory const&) = delete;
  float* of(int64_t thread) const { return reinterpret_cast<float*>(static_cast<char*>(base_) + thread * size_); }
  int64_t size() const { return size_; }

 private:
  int64_t const size_;
  size_t const total_;
  void* base_;
};

// Keeps this thread on one processor while it lives: beside other programs, systems are known to leave all threads of a
// short turn on the same core.
class Pin {
 public:
  explicit Pin(int processor) : pinned_(processor >= 0 && sched_getaffinity(0, sizeof before_, &before_) == 0) {
    if (!pinned_) return;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor, &only);
    pinned_ = sched_setaffinity(0, sizeof only, &only) == 0;
  }
  ~Pin() {
    if (pinned_) sched_setaffinity(0, sizeof before_, &before_);
  }
  Pin(Pin const&) = delete;

 private:
  cpu_set_t before_;
  bool pinned_;
};

// The best rate of one loop on all threads; `work(thread, repeats)` returns what it did (operations or bytes).
struct Loop {
  double (*work)(Memory const&, int64_t bytes, int64_t thread, int64_t repeats);
  int64_t bytes;
  double* rate;
  int64_t repeats = 1;
};

double fma(Memory const& memory, int64_t, int64_t thread, int64_t repeats) {
  return double(LEYOLO_PICK(limits_fma)(repeats, memory.of(thread)));
}

double read(Memory const& memory, int64_t bytes, int64_t thread, int64_t repeats) {
  float sink[16];
  LEYOLO_PICK(limits_read)(memory.of(thread), bytes / 4, repeats, sink);
  return double(bytes) * double(repeats);
}

double copy(Memory const& memory, int64_t bytes, int64_t thread, int64_t repeats) {
  int64_t const half = whole_blocks(bytes / 2);
  // Not at the same place of a page: loads would wait for stores that only look like theirs.
  float* const from = memory.of(thread);
  LEYOLO_PICK(limits_copy)(from, from + (half + 5 * kBlock) / 4, half / 4, repeats);
  return 2.0 * double(half) * double(repeats);
}

class Measurement {
 public:
  Measurement(Memory const& memory, int threads, Context const& context)
      : memory_(memory), threads_(threads), context_(context) {
    each_thread([&](int64_t thread) {
      std::memset(memory_.of(thread), 0, size_t(memory_.size()));  // there from now on, and near its thread
      return 0.0;
    });
  }

  void turn(Loop& loop) {
    for (;;) {
      Clock::time_point const begin = Clock::now();
      double const work =
          each_thread([&](int64_t thread) { return loop.work(memory_, loop.bytes, thread, loop.repeats); });
      double const elapsed = seconds_since(begin);
      if (elapsed < kTurn / 2) {  // only at first: too short to be timed
        loop.repeats *= 2;
        continue;
      }
      *loop.rate = std::max(*loop.rate, work / elapsed);
      return;
    }
  }

 private:
  template <class F>
  double each_thread(F&& f) {
    std::atomic<bool> apart{true};
    std::atomic<double> sum{0.0};
    parallel_for(context_, 0, threads_, 1, [&](int64_t begin, int64_t end) {
      if (end - begin > 1) apart = false;
      Pin const pin(int64_t(processors_.size()) >= threads_ ? processors_[size_t(begin)] : -1);
      for (int64_t thread = begin; thread < end; ++thread) sum.fetch_add(f(thread));
    });
    check(apart, "machine_limits: ", threads_, " threads are not to be had at the same time");
    return sum;
  }

  Memory const& memory_;
  int const threads_;
  Context const& context_;
  std::vector<int> const processors_ = allowed_processors();
};

// Working sets per thread that lie well inside each level, and well outside all of them.
std::vector<Bandwidth> levels(int threads) {
  CacheSizes const& cache = cache_sizes();
  std::vector<Bandwidth> found = {{"L1", cache.l1d / 2, 0, 0}, {"L2", cache.l2 / 2, 0, 0}};
  int64_t outside = int64_t(64) << 20;
  if (cache.l3 > 0) {
    int const sharers = std::min(threads, cache.l3_cores);
    found.push_back({"L3", std::max(cache.l3 / 4 / sharers, 2 * cache.l2), 0, 0});
    int64_t const caches = (threads + cache.l3_cores - 1) / cache.l3_cores;
    outside = std::max(outside, 4 * cache.l3 * caches);
  }
  int64_t const available = int64_t(sysconf(_SC_AVPHYS_PAGES)) * int64_t(sysconf(_SC_PAGESIZE));
  outside = std::min({outside, int64_t(1) << 30, available / 4});
  found.push_back({"DRAM", std::max(outside / threads, found.back().working_set), 0, 0});
  for (Bandwidth& level : found) level.working_set = whole_blocks(level.working_set);
  return found;
}

}  // namespace

MachineLimits machine_limits(int threads, double seconds, Context const& context) {
  check(threads > 0 && threads <= 4096, "machine_limits: threads must be between 1 and 4096, got ", threads);
  check(seconds > 0 && seconds <= 60, "machine_limits: seconds must be above 0 and at most 60, got ", seconds);
  MachineLimits limits{0, levels(threads)};
  constexpr int64_t kPage = 2 << 20;
  int64_t const room = (limits.levels.back().working_set + 16 * kBlock + kPage - 1) / kPage * kPage;
  Memory const memory(room, threads);
  std::vector<Loop> loops = {{fma, 0, &limits.flops}};
  for (Bandwidth& level : limits.levels) {
    loops.push_back({read, level.working_set, &level.read});
    loops.push_back({copy, level.working_set, &level.copy});
  }
  Measurement measurement(memory, threads, context);
  Clock::time_point const begin = Clock::now();
  // Round after round: a disturbance hits all loops alike, and each has its best turn somewhere else.
  for (int round = 0; round < kRounds || seconds_since(begin) < seconds; ++round)
    for (Loop& loop : loops) measurement.turn(loop);
  return limits;
}

}  // namespace leyolo

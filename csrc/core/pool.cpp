#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace leyolo {

namespace {

constexpr int kSpins = 4000;    // some 50 us: a network starts its next layer well within that
constexpr int kPatience = 400;  // then whoever waits lets others run
constexpr int kMaxThreads = 256;

thread_local bool inside = false;  // this thread is running a body: nested calls stay in it

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // waits about as long as x86's pause; most cores run `yield` in no time
#endif
}

struct Job {
  Body body;
  void* state;
  int64_t begin, end, piece;
};

// A fixed team. A job is announced by a new epoch; thread i claims piece i of it, the caller takes piece 0 and then
// whatever nobody has claimed: a thread that the system does not let run is not waited for.
class Team {
 public:
  // As many of the threads as the system grants.
  explicit Team(int threads) : asked(threads), claims_(size_t(threads)) {
    try {
      for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
    } catch (std::system_error const&) {
      return;
    }
  }

  int const asked;
  int size() const { return int(threads_.size()) + 1; }

  void run(Job const& job) {
    int const pieces = int((job.end - job.begin + job.piece - 1) / job.piece);
    uint64_t const epoch = epoch_.load(std::memory_order_relaxed) + 1;
    job_ = job;
    failure_ = nullptr;
    unfinished_.store(pieces - 1, std::memory_order_relaxed);
    for (int i = 1; i < pieces; ++i) claims_[i].value.store(2 * epoch, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);  // a worker that is falling asleep must not miss the epoch
      epoch_.store(epoch, std::memory_order_release);
    }
    if (sleepers_.load(std::memory_order_relaxed) > 0) wake_.notify_all();
    piece(0);
    for (int i = 1; i < pieces; ++i) claim(i, epoch);
    // A worker that the system has put on this very processor could not run while we spin: give way after a while.
    for (int spin = 0; unfinished_.load(std::memory_order_acquire) > 0; ++spin)
      spin < kPatience ? pause() : (void)sched_yield();
    if (failure_) std::rethrow_exception(failure_);
  }

  void stop() {
    stopping_ = true;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }

 private:
  void piece(int i) {
    int64_t const b = job_.begin + i * job_.piece, e = std::min(job_.end, b + job_.piece);
    if (b >= e) return;
    inside = true;
    try {
      job_.body(b, e, job_.state);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    inside = false;
  }

  // Runs piece i, not the caller's own, unless it is taken or its job is over.
  void claim(int i, uint64_t epoch) {
    uint64_t free = 2 * epoch;
    if (!claims_[i].value.compare_exchange_strong(free, free + 1, std::memory_order_acquire)) return;
    piece(i);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }

  void work(int i) {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && epoch_.load(std::memory_order_acquire) == seen; ++spin)
        spin % kPatience ? pause() : (void)sched_yield();
      if (epoch_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, [&] { return epoch_.load(std::memory_order_acquire) != seen; });
        sleepers_.fetch_sub(1);
      }
      seen = epoch_.load(std::memory_order_acquire);
      if (stopping_) return;
      claim(i, seen);
    }
  }

  struct alignas(64) Claim {
    std::atomic<uint64_t> value{0};  // 2 * epoch of its job; 2 * epoch + 1: taken
  };

  std::vector<Claim> claims_;  // of each piece, before the threads that read them
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<int> unfinished_{0}, sleepers_{0};
  std::atomic<bool> stopping_{false};
  Job job_{};
  std::exception_ptr failure_;
};

int from_environment() {
  for (char const* name : {"LEYOLO_NUM_THREADS", "OMP_NUM_THREADS"})
    if (char const* text = std::getenv(name)) {
      int const n = std::atoi(text);
      if (n > 0) return std::min(n, kMaxThreads);
    }
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

std::atomic<int> wanted{0};  // 0: not yet read from the environment
std::mutex in_use;           // one job at a time; a second caller runs alone instead of waiting
Team* team = nullptr;        // never joined at exit: its threads may be gone by then

// After a fork the child has none of the parent's threads: forget the team (and a lock that another thread held).
void after_fork() {
  team = nullptr;
  new (&in_use) std::mutex;
}

}  // namespace

int num_threads() {
  int n = wanted.load();
  if (n == 0) wanted.store(n = from_environment());
  return n;
}

void set_num_threads(int n) { wanted.store(std::clamp(n, 1, kMaxThreads)); }

void own_pool(int64_t begin, int64_t end, int64_t grain, Body body, void* state) {
  int const threads = num_threads();
  int64_t const count = end - begin;
  std::unique_lock<std::mutex> lock(in_use, std::defer_lock);
  if (threads == 1 || count <= grain || inside || !lock.try_lock()) return body(begin, end, state);
  if (team && team->asked != threads) {
    team->stop();
    delete team;
    team = nullptr;
  }
  if (!team) {
    static bool const registered = pthread_atfork(nullptr, nullptr, after_fork) == 0;
    (void)registered;
    team = new Team(threads);
  }
  int64_t const pieces = std::min<int64_t>(team->size(), (count + grain - 1) / grain);
  team->run({body, state, begin, end, (count + pieces - 1) / pieces});
}

}  // namespace leyolo

// The thread pool: every index once, nesting, exceptions, callers at the same time.
#include <atomic>
#include <stdexcept>
#include <thread>

#include "check.h"
#include "core/pool.h"
#include "tensor.h"

using namespace leyolo;

TEST(pool_covers_every_index_once) {
  int const before = num_threads();
  for (int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    for (int64_t n : {0, 1, 2, 5, 64, 1000}) {
      std::vector<std::atomic<int>> seen(n);
      parallel_for(test_context(), 0, n, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
      for (auto& s : seen) CHECK(s == 1);
    }
  }
  set_num_threads(before);
}

TEST(pool_runs_nested_calls_in_place_and_carries_exceptions) {
  set_num_threads(3);
  std::atomic<int> sum{0};
  parallel_for(test_context(), 0, 6, 1, [&](int64_t begin, int64_t end) {
    parallel_for(test_context(), begin, end, 1, [&](int64_t b, int64_t e) { sum += int(e - b); });
  });
  CHECK(sum == 6);
  for (int i = 0; i < 50; ++i)
    CHECK_THROWS(parallel_for(test_context(), 0, 30, 1, [&](int64_t begin, int64_t) {
      if (begin >= 10) throw std::runtime_error("from a body");
    }));
}

TEST(pool_serves_many_callers) {
  set_num_threads(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i)
        parallel_for(test_context(), 0, 100, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (auto& t : callers) t.join();
  CHECK(sum == 4 * 200 * 100);
}

// The ceilings: every loop does what it is counted for, and what comes out can be true.
#include <cstring>
#include <string>

#include "check.h"
#include "core/isa.h"
#include "core/limits.h"
#include "core/limits_args.h"
#include "tensor.h"

namespace leyolo {
LEYOLO_SIMD(long long limits_fma(long long rounds, float* sink))
LEYOLO_SIMD(void limits_read(float const* from, long long count, long long passes, float* sink))
LEYOLO_SIMD(void limits_copy(float const* from, float* to, long long count, long long passes))
}  // namespace leyolo

using namespace leyolo;

TEST(limits_loops_do_their_work) {
  float sink[16] = {};
  CHECK(LEYOLO_PICK(limits_fma)(7, sink) == 7 * LEYOLO_PICK(limits_fma)(1, sink));
  CHECK(LEYOLO_PICK(limits_fma)(100, sink) > 0);
  float const chains = sink[0] / 0.5f;  // each has settled at 0.5
  CHECK(chains == 12 || chains == 20);

  int64_t const n = 5 * kLimitsBlock;
  Array from = random_array({n}, -1, 1), to(DType::f32, {n});
  LEYOLO_PICK(limits_copy)(from.data(), to.data(), n, 2);
  CHECK(std::memcmp(from.data(), to.data(), size_t(n) * 4) == 0);

  LEYOLO_PICK(limits_read)(from.data(), n, 3, sink);  // an odd number of passes: the exclusive or of all values
  uint32_t expected = 0, found = 0, bits;
  for (int64_t i = 0; i < n; ++i) std::memcpy(&bits, from.data() + i, 4), expected ^= bits;
  for (int i = 0; i < lanes(); ++i) std::memcpy(&bits, sink + i, 4), found ^= bits;
  CHECK(expected == found);
}

TEST(limits_are_positive_and_named) {
  int const before = num_threads();
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    MachineLimits const m = machine_limits(threads, 1e-3, test_context());
    CHECK(m.flops > 0);
    CHECK(std::string(m.levels.front().level) == "L1" && std::string(m.levels.back().level) == "DRAM");
    for (size_t i = 0; i < m.levels.size(); ++i) {
      CHECK(m.levels[i].read > 0 && m.levels[i].copy > 0);
      CHECK(m.levels[i].working_set % (kLimitsBlock * 4) == 0);
      CHECK(i == 0 || m.levels[i].working_set >= m.levels[i - 1].working_set);
    }
  }
  set_num_threads(before);
}

TEST(limits_refuse_what_they_cannot_measure) {
  CHECK_THROWS(machine_limits(0, 0.1, test_context()));
  CHECK_THROWS(machine_limits(1, 0, test_context()));
  CHECK_THROWS(machine_limits(1, -1, test_context()));
  int const before = num_threads();
  set_num_threads(1);
  CHECK_THROWS(machine_limits(2, 1e-3, test_context()));  // one after the other would be no measurement of two
  set_num_threads(before);
}

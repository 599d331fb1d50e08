// The shim itself: what kernels may count on.
#include <numeric>

#include "check.h"
#include "core/mma.cuh"
#include "on_cuda.h"

using namespace leyolo;

namespace {

// Sum of a block by shuffles, shared memory and one barrier.
template <class T>
__global__ void block_sum(T const* x, float* sums, int n) {
  LEYOLO_SHARED(float, part, 32);
  int const i = int(blockIdx.x * blockDim.x + threadIdx.x);
  float sum = i < n ? float(x[i]) : 0;
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x) return;
  for (int w = 1; w < int(blockDim.x / 32); ++w) sum += part[w];
  sums[blockIdx.x] = sum;
}

// The last block to finish adds up what all have left.
__global__ void last_block_sums(float const* x, float* sums, unsigned* done, float* total) {
  LEYOLO_SHARED(bool, last, 1);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = x[2 * blockIdx.x] + x[2 * blockIdx.x + 1];
    __threadfence();
    last[0] = atomicAdd(done, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!last[0] || threadIdx.x != 1) return;
  float sum = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += sums[b];
  *total = sum;
}

__global__ void reverse_block(int* x) {
  LEYOLO_DYNAMIC_SHARED(int, tile);
  int const i = int(blockIdx.x * blockDim.x + threadIdx.x);
  tile[threadIdx.x] = x[i];
  __syncthreads();
  x[i] = tile[blockDim.x - 1 - threadIdx.x];
}

__global__ void poison(float* fixed, float* asked) {
  LEYOLO_SHARED(float, a, 2);
  LEYOLO_DYNAMIC_SHARED(float, b);
  fixed[blockIdx.x] = a[1], asked[blockIdx.x] = b[1];
  a[1] = b[1] = 0;
}

struct Shuffled {
  int idx[64], narrow[64], up[64], down[64], far[64];
  unsigned odd[64], half[64];
  int any[64], all[64], count[64];
};

__global__ void shuffles(Shuffled* to) {
  int const t = int(threadIdx.x), lane = t % 32;
  to->idx[t] = __shfl_sync(0xffffffffu, t, 5);
  to->narrow[t] = __shfl_sync(0xffffffffu, t, 9, 8);
  to->up[t] = __shfl_up_sync(0xffffffffu, t, 3);
  to->down[t] = __shfl_down_sync(0xffffffffu, t, 3, 16);
  to->far[t] = __shfl_xor_sync(0xffffffffu, t, 24);
  to->odd[t] = __ballot_sync(0xffffffffu, t & 1);
  if (lane < 16)
    to->half[t] = __ballot_sync(0xffffu, 1);
  else
    to->half[t] = __ballot_sync(0xffff0000u, lane == 31);
  __syncwarp();
  to->any[t] = __any_sync(0xffffffffu, t == 40), to->all[t] = __all_sync(0xffffffffu, t < 32);
  to->count[t] = __syncthreads_count(t % 3 == 0);
}

// Lanes that have gone count as arrived.
__global__ void early_exit(unsigned* votes) {
  if (threadIdx.x >= 20) return;
  votes[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
  __syncthreads();
  votes[threadIdx.x] += __syncthreads_or(threadIdx.x == 3);
}

struct Counters {
  int sum, low;
  unsigned bits, wrapped;
  unsigned long long high;
  float real;
  int winner;
};

__global__ void atomics(Counters* c) {
  int const i = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&c->sum, i), atomicMin(&c->low, i - 50), atomicOr(&c->bits, 1u << i % 32);
  atomicMax(&c->high, 1ull << i % 40), atomicInc(&c->wrapped, 9u), atomicAdd(&c->real, 0.5f);
  atomicCAS(&c->winner, -1, i);
}

struct Fragment {
  float a[4];
};

__global__ void whole_warp(float* out) {
  Fragment const mine{{float(threadIdx.x), 1, 2, 3}};
  shim::Exchange<Fragment> all(0xffffffffu, mine);
  float sum = 0;
  for (unsigned l = 0; l < 32; ++l) sum += all[l].a[0] * all[l].a[3];
  out[threadIdx.x] = sum;
}

// What a thread sees of its own two groups of copies: before any wait, after one group, after both.
__global__ void copies(uint4 const* x, uint4* seen) {
  LEYOLO_SHARED(uint4, to, 3 * 32);
  uint4* const mine = to + 3 * threadIdx.x;
  copy16_async(mine, x, true);
  copy_async_commit();
  copy16_async(mine + 1, x + 1, true);
  copy16_async(mine + 2, x + 2, false);
  copy_async_commit();
  uint4* const from = seen + 5 * threadIdx.x;
  from[0] = mine[0];
  copy_async_wait<1>();
  from[1] = mine[0], from[2] = mine[1];
  copy_async_wait<0>();
  from[3] = mine[1], from[4] = mine[2];
}

__global__ void maths(float* out, float4 const* vectors) {
  float4 const v = __ldg(vectors);
  float const values[] = {__fmul_rn(v.x, v.y),
                          __fadd_rn(v.x, v.y),
                          __fmaf_rn(v.x, v.y, v.z),
                          __fdiv_rn(v.x, v.y),
                          __saturatef(v.w),
                          rsqrtf(v.y),
                          __frcp_rn(v.y),
                          exp2f(v.x),
                          __expf(0),
                          max(v.x, v.y),
                          float(__popc(7)),
                          float(__ffs(8)),
                          float(__clz(1)),
                          float(__popcll(1ull << 40)),
                          float(__half(v.x) * __half(v.y)),
                          float(__nv_bfloat16(v.x)),
                          __half22float2(__hfma2(__half2(v.x, v.y), __half2(v.y, v.y), __half2(v.z, v.z))).y,
                          float(__float2int_rn(2.5f)),
                          float(__float2int_rd(-1.5f))};
  for (unsigned i = 0; i < sizeof(values) / sizeof(float); ++i) out[i] = values[i];
}

__global__ void where(uint3* places) {
  unsigned const block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  unsigned const thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  places[block * blockDim.x * blockDim.y * blockDim.z + thread] = {block, thread, threadIdx.z};
}

}  // namespace

TEST(shim_sums_a_block) {
  int const n = 1000;
  std::vector<float> x(n), sums(4, -1);
  std::vector<__half> halves(n);
  for (int i = 0; i < n; ++i) x[size_t(i)] = float(i % 7), halves[size_t(i)] = float(i % 5);
  LEYOLO_LAUNCH(block_sum<float>, 4, 256, 0, nullptr, x.data(), sums.data(), n);
  CHECK(std::accumulate(sums.begin(), sums.end(), 0.0f) == std::accumulate(x.begin(), x.end(), 0.0f));
  LEYOLO_LAUNCH(block_sum<__half>, 4, 256, 0, nullptr, halves.data(), sums.data(), n);
  CHECK(std::accumulate(sums.begin(), sums.end(), 0.0f) == 2000);
}

TEST(shim_lets_the_last_block_read_what_the_others_wrote) {
  std::vector<float> x(20, 1), sums(10);
  unsigned done = 7;
  float total = 0;
  fill_zero(&done, sizeof done, nullptr);
  LEYOLO_LAUNCH(last_block_sums, 10, 32, 0, nullptr, x.data(), sums.data(), &done, &total);
  CHECK(total == 20);
}

TEST(shim_gives_dynamic_shared_memory) {
  std::vector<int> x(200);
  std::iota(x.begin(), x.end(), 0);
  LEYOLO_LAUNCH(reverse_block, 2, 100, 100 * sizeof(int), nullptr, x.data());
  CHECK(x[0] == 99 && x[99] == 0 && x[100] == 199 && x[150] == 149);
}

TEST(shim_poisons_shared_memory_of_every_block) {
  float fixed[3], asked[3];
  LEYOLO_LAUNCH(poison, 3, 1, 8, nullptr, fixed, asked);
  for (int b = 0; b < 3; ++b) CHECK(fixed[b] != fixed[b] && asked[b] != asked[b]);
}

TEST(shim_shuffles_and_votes) {
  auto const r = std::make_unique<Shuffled>();
  LEYOLO_LAUNCH(shuffles, 1, 64, 0, nullptr, r.get());
  for (int t = 0; t < 64; ++t) {
    int const lane = t % 32, warp = t - lane;
    CHECK(r->idx[t] == warp + 5 && r->narrow[t] == t / 8 * 8 + 1);
    CHECK(r->up[t] == (lane >= 3 ? t - 3 : t) && r->down[t] == (lane % 16 + 3 < 16 ? t + 3 : t));
    CHECK(r->far[t] == (t ^ 24));
    CHECK(r->odd[t] == 0xaaaaaaaau && r->half[t] == (lane < 16 ? 0xffffu : 0x80000000u));
    CHECK(r->any[t] == (t >= 32) && r->all[t] == (t < 32) && r->count[t] == 22);
  }
}

TEST(shim_counts_lanes_that_have_gone_as_arrived) {
  unsigned votes[20];
  LEYOLO_LAUNCH(early_exit, 1, 40, 0, nullptr, votes);
  for (unsigned v : votes) CHECK(v == (1u << 20));
}

TEST(shim_has_atomics) {
  Counters c{0, 0, 0, 0, 0, 0, -1};
  LEYOLO_LAUNCH(atomics, 2, 50, 0, nullptr, &c);
  CHECK(c.sum == 4950 && c.low == -50 && c.bits == 0xffffffffu && c.wrapped == 0 && c.high == 1ull << 39);
  CHECK(c.real == 50 && c.winner >= 0 && c.winner < 100);
}

TEST(shim_exchanges_in_a_warp) {
  float out[64];
  LEYOLO_LAUNCH(whole_warp, 1, 64, 0, nullptr, out);
  for (int t = 0; t < 64; ++t) CHECK(out[t] == (t < 32 ? 3 * 496 : 3 * 1520));
}

TEST(shim_copies_no_sooner_than_a_thread_waits) {
  uint4 const x[] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 9, 9, 9}};
  std::vector<uint4> seen(5 * 32);
  LEYOLO_LAUNCH(copies, 1, 32, 0, nullptr, x, seen.data());
  unsigned const late = 0xffffffffu, expected[] = {late, 1, late, 5, 0};
  for (unsigned i = 0; i < seen.size(); ++i) CHECK(seen[i].x == expected[i % 5]);
}

TEST(shim_has_cudas_maths) {
  float out[19];
  float4 const v{1.5f, 4, 0.25f, 7};
  LEYOLO_LAUNCH(maths, 1, 1, 0, nullptr, out, &v);
  float const expected[] = {6, 5.5f, 6.25f, 0.375f, 1, 0.5f, 0.25f,  2.8284271f, 1, 4,
                            3, 4,    31,    1,      6, 1.5f, 16.25f, 2,          -2};
  for (int i = 0; i < 19; ++i) CHECK_NEAR(out[i], expected[i], 1e-6);
}

TEST(shim_numbers_blocks_and_threads) {
  std::vector<uint3> places(2 * 3 * 2 * 4 * 2 * 3);
  LEYOLO_LAUNCH(where, dim3(2, 3, 2), dim3(4, 2, 3), 0, nullptr, places.data());
  for (unsigned i = 0; i < places.size(); ++i)
    CHECK(places[i].x == i / 24 && places[i].y == i % 24 && places[i].z == i % 24 / 8);
}

TEST(shim_refuses_what_a_gpu_refuses) {
  int x[1] = {};
  CHECK_THROWS(LEYOLO_LAUNCH(reverse_block, 0, 1, 4, nullptr, x));
  CHECK_THROWS(LEYOLO_LAUNCH(reverse_block, dim3(1, 70000), 1, 4, nullptr, x));
  CHECK_THROWS(LEYOLO_LAUNCH(reverse_block, 1, 1025, 4, nullptr, x));
  CHECK_THROWS(LEYOLO_LAUNCH(reverse_block, 1, 1, 200000, nullptr, x));
}

#include "core/limits_args.h"
#include "core/simd.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// Independent sums: latency times units of the widest cores (4 x 4), or what 16 registers hold.
constexpr int kChains = kRegisters == 32 ? 20 : 12;
constexpr int kUnroll = 4;
constexpr int kVectors = 8;  // on their way at once

}  // namespace

// Multiplies and adds in registers; returns the floating-point operations done.
extern long long limits_fma(long long rounds, float* sink) {
  vf const factor = pinned(splat(0.5f)), term = pinned(splat(0.25f));  // all chains stay near 0.5
  vf acc[kChains];
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) acc[i] = pinned(splat(0.125f));
  for (long long r = 0; r < rounds; ++r) {
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll; ++u)
#pragma GCC unroll 32
      for (int i = 0; i < kChains; ++i) acc[i] = pinned(acc[i] * factor + term);
  }
  vf sum{};
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) sum += acc[i];
  store(sink, sum);
  return rounds * kUnroll * kChains * kLanes * 2;
}

// Reads `count` values (whole blocks) `passes` times.
extern void limits_read(float const* from, long long count, long long passes, float* sink) {
  vu acc[kVectors] = {};
  for (long long pass = 0; pass < passes; ++pass) {
    for (long long i = 0; i < count; i += kVectors * kLanes) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[v] ^= reinterpret_cast<vu>(load(from + i + v * kLanes));
    }
    asm volatile("" ::: "memory");  // a pass is not the same as the one before it
  }
  vu all{};
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) all ^= acc[v];
  store(sink, reinterpret_cast<vf>(all));
}

// Copies `count` values (whole blocks) `passes` times, through the caches.
extern void limits_copy(float const* from, float* to, long long count, long long passes) {
  for (long long pass = 0; pass < passes; ++pass) {
    for (long long i = 0; i < count; i += kVectors * kLanes) {
      vf block[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) block[v] = pinned(load(from + i + v * kLanes));
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) store(to + i + v * kLanes, block[v]);
    }
    asm volatile("" ::: "memory");
  }
}

}  // namespace leyolo::LEYOLO_ISA

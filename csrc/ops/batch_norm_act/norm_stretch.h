// How far norm passes sum in float32, and the tables they read and sum into (see NormArgs).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace leyolo {

constexpr int64_t kNormTables = 4;  // of sums

// Channels last: whole steps of every instruction set; not shorter, so that few values are added to one float32 sum.
inline int64_t norm_period(int64_t channels) { return std::lcm(channels, int64_t(64)); }

// Values, whole periods of them.
constexpr int64_t kNormStretch = 8192;
inline int64_t norm_stretch(int64_t period) { return period * std::max<int64_t>(16, kNormStretch / period); }

// What belongs to channels, up to the period.
inline void norm_repeat(float* table, int64_t channels, int64_t period) {
  for (int64_t i = channels; i < period; ++i) table[i] = table[i - channels];
}

}  // namespace leyolo

// Shared with limits.simd.cpp, hence no standard header.
#pragma once

namespace leyolo {

constexpr long long kLimitsBlock = 128;  // float32 values that the loops over memory take at a time

}  // namespace leyolo

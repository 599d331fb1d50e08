// Weights to bfloat16.
#pragma once

#include <cstdint>
#include <vector>

#include "core/half.h"

namespace leyolo {

// The weights of one output channel, scaled and rounded so that their errors cancel in the sum: neighbouring inputs of
// a channel are alike, and so are many channels, hence what counts is the error of the sum and not of each weight. The
// largest go first and each takes over the error so far; so a weight may be off by one unit in the last place, instead
// of half of one. On LeYOLO this takes the depthwise weights' share of the error down to a quarter.
std::vector<bfloat16> round_together(float const* weights, int64_t count, float scale);

}  // namespace leyolo

// What the forward and the backward pass of depthwise_conv2d share.
#pragma once

#include "ops/depthwise_conv2d/depthwise_conv2d.h"

namespace leyolo {

void depthwise_check(View x, View weight, View bias, View y, Depthwise const& params);
DepthwiseArgs depthwise_args(View x, View weight, View y, float const* packed, Depthwise const& params);

}  // namespace leyolo

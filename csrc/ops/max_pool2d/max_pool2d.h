// Max pooling with stride 1 and padding kernel / 2 (the pools of SPPF), NHWC, float32.
#pragma once

#include "core/context.h"
#include "ops/max_pool2d/max_pool2d_args.h"

namespace leyolo {

void max_pool2d_image(MaxPool2dArgs const& a, Context const& context);

}  // namespace leyolo

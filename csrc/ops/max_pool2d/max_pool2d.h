// Max pooling with stride 1 and padding kernel / 2 (the pools of SPPF), NHWC, float32 or bfloat16.
#pragma once

#include "core/context.h"
#include "ops/max_pool2d/max_pool2d_args.h"
#include "ops/max_pool2d/max_pool2d_bf16_args.h"

namespace leyolo {

void max_pool2d_image(MaxPool2dArgs const& a, Context const& context);
void max_pool2d_bf16_image(MaxPool2dBf16Args const& a, Context const& context);  // only where has_bf16_dot()

}  // namespace leyolo

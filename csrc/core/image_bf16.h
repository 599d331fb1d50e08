// An image as the first bfloat16 layer wants it: four channels, so that dot products see pairs, and values in 0..255,
// since all bytes are bfloat16 numbers but their 255ths are not. Only where has_bf16_dot().
#pragma once

#include "core/image_bf16_args.h"
#include "core/view.h"

namespace leyolo {

void image_bf16(ImageBf16Args const& a, DType from /*f32 or u8*/);  // in this thread

}  // namespace leyolo

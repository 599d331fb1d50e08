// float16 and bfloat16 arrays to float32 and back (round to nearest even), vectorised and threaded;
// bytes to 0..1.
#pragma once

#include "core/context.h"
#include "core/convert_args.h"
#include "core/isa.h"
#include "core/view.h"

namespace leyolo {

LEYOLO_SIMD(void float_from_f16(ConvertArgs const&))
LEYOLO_SIMD(void float_from_bf16(ConvertArgs const&))
LEYOLO_SIMD(void f16_from_float(ConvertArgs const&))
LEYOLO_SIMD(void bf16_from_float(ConvertArgs const&))

void to_float(void const* from, DType dtype /* f16 or bf16 */, float* to, int64_t count, Context const& context);
void from_float(float const* from, void* to, DType dtype /* f16 or bf16 */, int64_t count, Context const& context);

void unit_from_bytes(uint8_t const* from, float* to, int64_t count);  // divided by 255, in this thread

}  // namespace leyolo

#include "core/convert.h"

namespace leyolo {

LEYOLO_SIMD(void unit_from_bytes(unsigned char const* from, float* to, long long count))

namespace {

constexpr int64_t kGrain = 1 << 15;

template <class F>
void run(F* convert, char const* from, int64_t from_size, char* to, int64_t to_size, int64_t count,
         Context const& context) {
  parallel_for(context, 0, count, kGrain, [=](int64_t begin, int64_t end) {
    convert({from + begin * from_size, to + begin * to_size, end - begin});
  });
}

}  // namespace

void to_float(void const* from, DType dtype, float* to, int64_t count, Context const& context) {
  run(dtype == DType::f16 ? LEYOLO_PICK(float_from_f16) : LEYOLO_PICK(float_from_bf16), static_cast<char const*>(from),
      2, reinterpret_cast<char*>(to), 4, count, context);
}

void from_float(float const* from, void* to, DType dtype, int64_t count, Context const& context) {
  run(dtype == DType::f16 ? LEYOLO_PICK(f16_from_float) : LEYOLO_PICK(bf16_from_float),
      reinterpret_cast<char const*>(from), 4, static_cast<char*>(to), 2, count, context);
}

void unit_from_bytes(uint8_t const* from, float* to, int64_t count) { LEYOLO_PICK(unit_from_bytes)(from, to, count); }

}  // namespace leyolo

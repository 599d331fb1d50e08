#include "bf16.h"
#include "check.h"
#include "core/image_bf16.h"
#include "core/isa.h"

using namespace leyolo;

TEST(image_bf16_holds_every_byte_exactly) {
  if (!has_bf16_dot()) return;
  for (int64_t pixels : {1, 5, 16, 21, 86}) {
    Array bytes(DType::u8, {pixels, 3}), floats(DType::f32, {pixels, 3}), from_bytes(DType::bf16, {pixels, 4}),
        from_floats(DType::bf16, {pixels, 4});
    for (int64_t i = 0; i < 3 * pixels; ++i) {
      bytes.data<uint8_t>()[i] = uint8_t(i);
      floats.data()[i] = float(uint8_t(i)) / 255.0f;
    }
    image_bf16({bytes.view.data, from_bytes.data<uint16_t>(), pixels}, DType::u8);
    image_bf16({floats.view.data, from_floats.data<uint16_t>(), pixels}, DType::f32);
    for (int64_t i = 0; i < pixels; ++i)
      for (int64_t c = 0; c < 4; ++c) {
        float const expected = c < 3 ? float(uint8_t(3 * i + c)) : 0.0f;
        CHECK(float(from_bytes.data<bfloat16>()[4 * i + c]) == expected);
        CHECK(float(from_floats.data<bfloat16>()[4 * i + c]) == expected);
      }
  }
}

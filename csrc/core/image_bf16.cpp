#include "core/image_bf16.h"

#include "core/isa.h"

namespace leyolo {

LEYOLO_BF16(void image_bf16_from_float(ImageBf16Args const&))
LEYOLO_BF16(void image_bf16_from_bytes(ImageBf16Args const&))

void image_bf16(ImageBf16Args const& a, DType from) {
  auto* const kernel =
      from == DType::u8 ? LEYOLO_PICK_BF16(image_bf16_from_bytes) : LEYOLO_PICK_BF16(image_bf16_from_float);
  kernel(a);
}

}  // namespace leyolo

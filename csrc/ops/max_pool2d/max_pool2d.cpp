#include "ops/max_pool2d/max_pool2d.h"

#include "core/isa.h"

namespace leyolo {

LEYOLO_SIMD(void max_pool2d_rows(MaxPool2dArgs const&, long long begin, long long end))
LEYOLO_BF16(void max_pool2d_bf16_rows(MaxPool2dBf16Args const&, long long begin, long long end))

void max_pool2d_image(MaxPool2dArgs const& a, Context const& context) {
  auto* const rows = LEYOLO_PICK(max_pool2d_rows);
  // Some 10 us.
  parallel_for(context, 0, a.height, 1 + 32768 / (a.width * a.channels),
               [&](int64_t begin, int64_t end) { rows(a, begin, end); });
}

void max_pool2d_bf16_image(MaxPool2dBf16Args const& a, Context const& context) {
  auto* const rows = LEYOLO_PICK_BF16(max_pool2d_bf16_rows);
  parallel_for(context, 0, a.height, 8, [&](int64_t begin, int64_t end) { rows(a, begin, end); });
}

}  // namespace leyolo

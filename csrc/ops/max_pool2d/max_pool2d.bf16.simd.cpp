// Max pooling of bfloat16 maps as integers: after flipping the magnitude of negative values, they sort as signed
// 16-bit.
#include "core/bf16_simd.h"
#include "ops/max_pool2d/max_pool2d_bf16_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

constexpr int kValues = 2 * kLanes;

// Its own inverse.
LEYOLO_INLINE __m512i sortable(__m512i v) {
  return _mm512_xor_si512(v, _mm512_and_si512(_mm512_srai_epi16(v, 15), _mm512_set1_epi16(0x7fff)));
}

}  // namespace

// Rows [begin, end). As in torch, NaN wins: it spreads to every window that holds it.
extern void max_pool2d_bf16_rows(MaxPool2dBf16Args const& a, long long begin, long long end) {
  long long const reach = a.kernel / 2;
  __m512i const magnitude = _mm512_set1_epi16(0x7fff), infinity = _mm512_set1_epi16(0x7f80);
  for (long long row = begin; row < end; ++row) {
    long long const top = row < reach ? 0 : row - reach;
    long long const bottom = row + reach < a.height ? row + reach : a.height - 1;
    for (long long column = 0; column < a.width; ++column) {
      long long const left = column < reach ? 0 : column - reach;
      long long const right = column + reach < a.width ? column + reach : a.width - 1;
      for (int channel = 0; channel < a.channels; channel += kValues) {
        int const n = a.channels - channel;
        __mmask32 const mask = n < kValues ? (1u << n) - 1 : 0xffffffffu;
        __m512i best = _mm512_set1_epi16(-0x8000), largest{};
        for (long long y = top; y <= bottom; ++y)
          for (long long x = left; x <= right; ++x) {
            __m512i const v = _mm512_maskz_loadu_epi16(mask, a.x + (y * a.width + x) * a.x_pitch + channel);
            best = _mm512_max_epi16(best, sortable(v));
            largest = _mm512_max_epu16(largest, _mm512_and_si512(v, magnitude));
          }
        __mmask32 const nan = _mm512_cmpgt_epu16_mask(largest, infinity);
        _mm512_mask_storeu_epi16(a.y + (row * a.width + column) * a.y_pitch + channel, mask,
                                 _mm512_mask_mov_epi16(sortable(best), nan, largest));
      }
    }
  }
}

}  // namespace leyolo::LEYOLO_ISA

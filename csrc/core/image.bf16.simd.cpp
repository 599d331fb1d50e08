#include "core/bf16_simd.h"
#include "core/image_bf16_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// 16 pixels of three values, as three vectors, to four.
LEYOLO_INLINE void widen_pixels(vf a, vf b, vf c, uint16_t* y) {
  alignas(64) static constexpr uint16_t order[] = {0,  1,  2,  0, 3,  4,  5,  0, 6,  7,  8,  0, 9,  10, 11, 0,
                                                   12, 13, 14, 0, 15, 16, 17, 0, 18, 19, 20, 0, 21, 22, 23, 0};
  constexpr __mmask32 kColours = 0x77777777u;
  __m512i const low = narrow_two(a, b), high = _mm512_castsi256_si512(narrow(c)), first = _mm512_load_si512(order),
                second = _mm512_add_epi16(first, _mm512_set1_epi16(24));
  _mm512_storeu_si512(y, _mm512_maskz_permutexvar_epi16(kColours, first, low));
  _mm512_storeu_si512(y + 32, _mm512_maskz_permutex2var_epi16(kColours, low, second, high));
}

template <class T, class Load>
LEYOLO_INLINE void each_pixel(ImageBf16Args const& a, Load load) {
  T const* x = static_cast<T const*>(a.x);
  long long i = 0;
  for (; i + 16 <= a.pixels; i += 16)
    widen_pixels(load(x + 3 * i), load(x + 3 * i + 16), load(x + 3 * i + 32), a.y + 4 * i);
  if (i == a.pixels) return;
  T from[48] = {};
  uint16_t to[64];
  int const n = static_cast<int>(a.pixels - i);
  for (int j = 0; j < 3 * n; ++j) from[j] = x[3 * i + j];
  widen_pixels(load(from), load(from + 16), load(from + 32), to);
  for (int j = 0; j < 4 * n; ++j) a.y[4 * i + j] = to[j];
}

}  // namespace

extern void image_bf16_from_float(ImageBf16Args const& a) {
  each_pixel<float>(a, [](float const* p) LEYOLO_LAMBDA { return load(p) * 255.0f; });
}

extern void image_bf16_from_bytes(ImageBf16Args const& a) {
  each_pixel<unsigned char>(a, [](unsigned char const* p) LEYOLO_LAMBDA {
    return reinterpret_cast<vf>(
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p)))));
  });
}

}  // namespace leyolo::LEYOLO_ISA

// The two passes of the bilinear resize in 16-bit arithmetic, four lanes per pixel (the last one idle), and the exact
// half.
#include "core/simd.h"
#include "ops/letterbox/letterbox_args.h"
#include "ops/letterbox/letterbox_math.h"

namespace leyolo::LEYOLO_ISA {

// Pixel at[x] + 1 exists wherever its weight is not 0.
extern void resize_row(ResizeRowArgs const& a) {
  int x = 0;
#if defined(__AVX2__)
  int end = a.count;
  while (end > 0 && 3LL * a.at[end - 1] + 8 > 3LL * a.width) --end;  // 8 bytes are loaded per pixel
  __m256i const pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                         0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  auto const load2 = [&](int i, int j) LEYOLO_LAMBDA {  // pixels i and j: four sums of 32 bits each
    __m256i const v = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(a.row + 3LL * a.at[i]))),
        _mm_loadl_epi64(reinterpret_cast<__m128i const*>(a.row + 3LL * a.at[j])), 1);
    __m256i const w = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi32(static_cast<int>(a.weights[i]))),
                                              _mm_set1_epi32(static_cast<int>(a.weights[j])), 1);
    return _mm256_srli_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(v, pairs), w), 4);
  };
  for (; x + 4 <= end; x += 4)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a.to + 4LL * x),
                        _mm256_packs_epi32(load2(x, x + 2), load2(x + 1, x + 3)));
#endif
  for (; x < a.count; ++x) {
    unsigned char const* const p = a.row + 3LL * a.at[x];
    int const w0 = static_cast<int>(a.weights[x] & 0xffffu), w1 = static_cast<int>(a.weights[x] >> 16);
    short* const to = a.to + 4LL * x;
    for (int c = 0; c < 3; ++c) to[c] = static_cast<short>(mix_columns(p[c], w1 ? p[3 + c] : 0, w0, w1));
    to[3] = 0;
  }
}

extern void blend_rows(BlendRowsArgs const& a) {
  int x = 0;
#if defined(__AVX2__)
  __m256i const w0 = _mm256_set1_epi16(static_cast<short>(a.w0)), w1 = _mm256_set1_epi16(static_cast<short>(a.w1));
  __m256i const two = _mm256_set1_epi16(2);
  __m128i const order = a.swap_rb ? _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1)
                                  : _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  for (; x + 6 <= a.count; x += 4) {  // 16 bytes are stored for 12
    auto const* const upper = reinterpret_cast<__m256i const*>(a.upper + 4LL * x);
    auto const* const lower = reinterpret_cast<__m256i const*>(a.lower + 4LL * x);
    __m256i const sum = _mm256_add_epi16(_mm256_mulhi_epi16(_mm256_loadu_si256(upper), w0),
                                         _mm256_mulhi_epi16(_mm256_loadu_si256(lower), w1));
    __m256i const pixel = _mm256_srai_epi16(_mm256_add_epi16(sum, two), 2);
    __m128i const bytes = _mm_packus_epi16(_mm256_castsi256_si128(pixel), _mm256_extracti128_si256(pixel, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(a.to + 3LL * x), _mm_shuffle_epi8(bytes, order));
  }
#endif
  for (; x < a.count; ++x)
    for (int c = 0; c < 3; ++c)
      a.to[3LL * x + (a.swap_rb ? 2 - c : c)] =
          static_cast<unsigned char>(mix_rows(a.upper[4LL * x + c], a.lower[4LL * x + c], a.w0, a.w1));
}

extern void halve_rows(HalveRowsArgs const& a) {
  int x = 0;
#if defined(__AVX2__)
  // A half of the vector takes 4 source pixels: the pairs of each channel side by side, then their sums.
  __m128i const half = a.swap_rb ? _mm_setr_epi8(2, 5, 1, 4, 0, 3, 8, 11, 7, 10, 6, 9, -1, -1, -1, -1)
                                 : _mm_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1);
  __m256i const pairs = _mm256_broadcastsi128_si256(half), ones = _mm256_set1_epi8(1), two = _mm256_set1_epi16(2);
  auto const sums = [&](unsigned char const* p) LEYOLO_LAMBDA {
    __m256i const v =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<__m128i const*>(p))),
                                _mm_loadu_si128(reinterpret_cast<__m128i const*>(p + 12)), 1);
    return _mm256_maddubs_epi16(_mm256_shuffle_epi8(v, pairs), ones);
  };
  for (; x + 5 <= a.count; x += 4) {  // 28 bytes are loaded for 24, 14 stored for 12
    __m256i const sum = _mm256_add_epi16(_mm256_add_epi16(sums(a.upper + 6LL * x), sums(a.lower + 6LL * x)), two);
    __m256i const mean = _mm256_srli_epi16(sum, 2), bytes = _mm256_packus_epi16(mean, mean);
    unsigned char* const to = a.to + 3LL * x;
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(bytes));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 6), _mm256_extracti128_si256(bytes, 1));
  }
#endif
  for (; x < a.count; ++x) {
    unsigned char const *const u = a.upper + 6LL * x, *const l = a.lower + 6LL * x;
    for (int c = 0; c < 3; ++c)
      a.to[3LL * x + (a.swap_rb ? 2 - c : c)] =
          static_cast<unsigned char>(mean_of_four(u[c], u[c + 3], l[c], l[c + 3]));
  }
}

}  // namespace leyolo::LEYOLO_ISA

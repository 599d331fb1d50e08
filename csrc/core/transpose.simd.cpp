#include "core/simd.h"

namespace leyolo::LEYOLO_ISA {

namespace {

// The elements of the lower (upper) halves of a and b in turns.
#if LEYOLO_LANES == 16
LEYOLO_INLINE vf lower(vf a, vf b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
LEYOLO_INLINE vf upper(vf a, vf b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif LEYOLO_LANES == 8
LEYOLO_INLINE vf lower(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
LEYOLO_INLINE vf upper(vf a, vf b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
LEYOLO_INLINE vf lower(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
LEYOLO_INLINE vf upper(vf a, vf b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// Seen as one row after the other, the bits of an element's place are those of its row, then those of its lane. Every
// round moves each bit up by one and the highest to the lowest place.
LEYOLO_INLINE void transpose_block(vf (&a)[kLanes]) {
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    vf b[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      b[2 * i] = lower(a[i], a[i + kLanes / 2]);
      b[2 * i + 1] = upper(a[i], a[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) a[i] = b[i];
  }
}

}  // namespace

extern void transpose_rows(float const* from, long long pitch, int rows, long long columns, float* to,
                           long long to_pitch) {
  for (long long c = 0; c < columns; c += kLanes) {
    int const count = columns - c < kLanes ? static_cast<int>(columns - c) : kLanes;
    vf a[kLanes];
    if (rows >= kLanes && count == kLanes) {
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) a[r] = load(from + r * pitch + c);
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) a[r] = r < rows ? load_part(from + r * pitch + c, count) : vf{};
    }
    transpose_block(a);
    float* y = to + c * to_pitch;
    if (count == kLanes) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i, y += to_pitch) store(y, a[i]);
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i, y += to_pitch)
        if (i < count) store(y, a[i]);
    }
  }
}

// The first block of rows x columns values.
LEYOLO_INLINE void transpose_block(float const* x, long long from_pitch, int rows, int columns, float* y,
                                   long long to_pitch) {
  vf a[kLanes];
  if (rows >= kLanes && columns >= kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) a[i] = load(x + i * from_pitch);
    transpose_block(a);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) store(y + i * to_pitch, a[i]);
    return;
  }
  int const height = rows < kLanes ? rows : kLanes, width = columns < kLanes ? columns : kLanes;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) a[i] = i < height ? load_part(x + i * from_pitch, width) : vf{};
  transpose_block(a);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (i < width) store_part(y + i * to_pitch, a[i], height);
}

// to[c * to_pitch + r] = from[r * from_pitch + c]; nothing else is read or written.
extern void transpose_tile(float const* from, long long from_pitch, int rows, int columns, float* to,
                           long long to_pitch) {
  for (int line = 0; line < columns; line += 16)  // a cache line of every row
    for (int r = 0; r < rows; r += kLanes)
      for (int c = line; c < columns && c < line + 16; c += kLanes)
        transpose_block(from + r * from_pitch + c, from_pitch, rows - r, columns - c, to + c * to_pitch + r, to_pitch);
}

}  // namespace leyolo::LEYOLO_ISA

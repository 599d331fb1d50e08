// Instructions of a whole warp and asynchronous copies, as thin functions: PTX on a GPU; in the shim a body that moves
// every value where the instruction would, so that the layout of the fragments is tested, too.
#pragma once

#include <cstring>

#include "core/cuda.cuh"

namespace leyolo {

// d[16 x 8] += a[16 x 16] b[16 x 8], in the fragments of mma.m16n8k16: with g = lane / 4 and t = lane % 4, a lane holds
//   d: rows g (d[0], d[1]) and g + 8 (d[2], d[3]), columns 2t and 2t + 1
//   a: pairs of columns 2t, 2t + 1 (a[0]: row g, a[1]: row g + 8), and 8 columns further (a[2], a[3])
//   b: pairs of rows 2t, 2t + 1 (b[0]) and 8 rows further (b[1]) of column g
template <class T>
__device__ __forceinline__ void mma_16816(float (&d)[4], unsigned const (&a)[4], unsigned const (&b)[2]) {
#ifdef LEYOLO_CUDA_SHIM
  struct Fragments {
    T a[4][2], b[2][2];
  } mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  shim::Exchange<Fragments> const all(0xffffffffu, mine);
  unsigned const g = shim::lane() / 4, t = shim::lane() % 4;
  for (unsigned quad = 0; quad < 4; ++quad) {  // lanes of a row of a, of a column of b
    Fragments const rows = all[4 * g + quad];
    for (unsigned column = 0; column < 2; ++column) {
      Fragments const columns = all[4 * (2 * t + column) + quad];
      for (int far = 0; far < 2; ++far)
        for (int e = 0; e < 2; ++e) {
          d[column] += float(rows.a[2 * far][e]) * float(columns.b[far][e]);
          d[2 + column] += float(rows.a[2 * far + 1][e]) * float(columns.b[far][e]);
        }
    }
  }
#else
  if constexpr (std::is_same_v<T, __half>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// d[16 x 8] += a[16 x 8] b[8 x 8] in TF32, in the fragments of mma.m16n8k8: d as above; a: columns t of rows g and g +
// 8, then t + 4 of both; b: rows t and t + 4 of column g. The unit drops the lower 13 bits of what it is given.
__device__ __forceinline__ void mma_1688_tf32(float (&d)[4], unsigned const (&a)[4], unsigned const (&b)[2]) {
#ifdef LEYOLO_CUDA_SHIM
  struct Fragments {
    float a[4], b[2];
  } mine;
  for (int i = 0; i < 6; ++i) {
    unsigned const kept = (i < 4 ? a[i] : b[i - 4]) & ~0x1fffu;
    std::memcpy(i < 4 ? &mine.a[i] : &mine.b[i - 4], &kept, 4);
  }
  shim::Exchange<Fragments> const all(0xffffffffu, mine);
  unsigned const g = shim::lane() / 4, t = shim::lane() % 4;
  for (unsigned quad = 0; quad < 4; ++quad) {
    Fragments const rows = all[4 * g + quad];
    for (unsigned column = 0; column < 2; ++column) {
      Fragments const columns = all[4 * (2 * t + column) + quad];
      for (int far = 0; far < 2; ++far) {
        d[column] += rows.a[2 * far] * columns.b[far];
        d[2 + column] += rows.a[2 * far + 1] * columns.b[far];
      }
    }
  }
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The bits of a float32 rounded to TF32: 10 bits of mantissa, ties away from zero.
__device__ __forceinline__ unsigned tf32_of(unsigned bits) {
#ifdef LEYOLO_CUDA_SHIM
  bool const finite = (bits & 0x7f800000u) != 0x7f800000u;
  return finite ? (bits + 0x1000u) & ~0x1fffu : bits;
#else
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
#endif
}

// Four 8 x 8 matrices of 16-bit values, or 8 x 4 of 32-bit ones, from shared memory. Lanes 8 i to 8 i + 7 give the
// addresses of the rows of matrix i (16 bytes each, aligned); lane l gets columns 2 (l % 4) and the next of row l / 4
// of every matrix.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&to)[4], void const* row) {
#ifdef LEYOLO_CUDA_SHIM
  shim::check_aligned(row);
  shim::Exchange<char const*> const rows(0xffffffffu, static_cast<char const*>(row));
  for (unsigned i = 0; i < 4; ++i) std::memcpy(&to[i], rows[8 * i + shim::lane() / 4] + 4 * (shim::lane() % 4), 4);
#else
  unsigned const address = unsigned(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
#endif
}

// The same of 16-bit values, every matrix transposed: lane l gets rows 2 (l % 4) and the next of column l / 4.
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&to)[4], void const* row) {
#ifdef LEYOLO_CUDA_SHIM
  shim::check_aligned(row);
  shim::Exchange<char const*> const rows(0xffffffffu, static_cast<char const*>(row));
  for (unsigned i = 0; i < 4; ++i)
    for (unsigned e = 0; e < 2; ++e)
      std::memcpy(reinterpret_cast<char*>(&to[i]) + 2 * e,
                  rows[8 * i + 2 * (shim::lane() % 4) + e] + 2 * (shim::lane() / 4), 2);
#else
  unsigned const address = unsigned(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
#endif
}

// 16 bytes from global to shared memory, both aligned, past the registers; zeros where not `valid` (then `from` is not
// read). They have arrived, for the thread that asked, after a copy_async_wait; for others after a barrier behind it.
__device__ __forceinline__ void copy16_async(void* to, void const* from, bool valid) {
#ifdef LEYOLO_CUDA_SHIM
  shim::copy_async(to, from, valid);
#else
  unsigned const address = unsigned(__cvta_generic_to_shared(to)), bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
#endif
}

// Closes a group of copies.
__device__ __forceinline__ void copy_async_commit() {
#ifdef LEYOLO_CUDA_SHIM
  ++shim::running->copy_group;
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until at most the last `GROUPS` groups of this thread are under way.
template <int GROUPS>
__device__ __forceinline__ void copy_async_wait() {
#ifdef LEYOLO_CUDA_SHIM
  shim::copy_async_wait(GROUPS);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

// The row of a fragment's operand that lane l gives to ldmatrix_x4, and the column: of a [16 rows x 16], and of two b,
// stored as [16 columns x 16] (a row of memory is a column of b). `vector`: values of 16 bytes; of TF32 a is [16 x 8].
__device__ __forceinline__ int a_row(int lane) { return lane % 16; }
__device__ __forceinline__ int a_column(int lane, int vector = 8) { return lane / 16 * vector; }
__device__ __forceinline__ int b_row(int lane) { return lane / 16 * 8 + lane % 8; }
__device__ __forceinline__ int b_column(int lane, int vector = 8) { return lane / 8 % 2 * vector; }

// Where column n of a group of 32 columns of d lies among the rows of b in memory, so that a lane's results of four
// mma become 8 neighbouring columns: lane t of four gets columns 8 t to 8 t + 7, results 2 j and 2 j + 1 from mma j.
__device__ __forceinline__ int b_place(int n) { return n % 8 / 2 * 8 + n / 8 % 4 * 2 + n % 2 + n / 32 * 32; }

}  // namespace leyolo

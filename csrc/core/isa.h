// One binary, several instruction sets: every `<op>.simd.cpp` is compiled once per set into a namespace of its own.
#pragma once

namespace leyolo {

enum class Isa { baseline, avx2, avx512 };

// The best set that this build holds and this machine runs. LEYOLO_ISA=baseline|avx2|avx512 lowers it (for tests);
// read once.
Isa isa();
char const* name_of(Isa);

// Whether the kernels of `*.bf16.simd.cpp` (AVX512-BF16) may run: the machine has the instructions, and the set above
// was not lowered.
bool has_bf16_dot();

// float32 values of one vector: packed weights are padded to whole vectors.
int lanes();

}  // namespace leyolo

// LEYOLO_SIMD(void row(RowArgs const&)) declares the function for every set; LEYOLO_PICK(row) is the one to call.
#ifdef LEYOLO_X86
#define LEYOLO_SIMD(...) \
  namespace baseline {   \
  extern __VA_ARGS__;    \
  }                      \
  namespace avx2 {       \
  extern __VA_ARGS__;    \
  }                      \
  namespace avx512 {     \
  extern __VA_ARGS__;    \
  }
// The same for the one set of `*.bf16.simd.cpp`; a null pointer where this build holds none.
#define LEYOLO_BF16(...) \
  namespace avx512bf16 { \
  extern __VA_ARGS__;    \
  }
#define LEYOLO_PICK_BF16(f) avx512bf16::f
#define LEYOLO_PICK(f)                                  \
  (::leyolo::isa() == ::leyolo::Isa::avx512 ? avx512::f \
   : ::leyolo::isa() == ::leyolo::Isa::avx2 ? avx2::f   \
                                            : baseline::f)
#else
#define LEYOLO_SIMD(...) \
  namespace baseline {   \
  extern __VA_ARGS__;    \
  }
#define LEYOLO_BF16(...) \
  namespace avx512bf16 { \
  extern __VA_ARGS__;    \
  }
#define LEYOLO_PICK_BF16(f) decltype (&avx512bf16::f)()
#define LEYOLO_PICK(f) baseline::f
#endif

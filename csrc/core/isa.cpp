#include "core/isa.h"

#include <cstdlib>
#include <string_view>

namespace leyolo {

namespace {

Isa best() {
#ifdef LEYOLO_X86
  // __builtin_cpu_supports also asks whether the operating system saves the registers.
  bool const avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("f16c");
  bool const avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  return avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::baseline;
#else
  return Isa::baseline;
#endif
}

Isa chosen() {
  Isa const top = best();
  char const* wish = std::getenv("LEYOLO_ISA");
  if (!wish) return top;
  for (Isa i : {Isa::baseline, Isa::avx2, Isa::avx512})
    if (i <= top && std::string_view(wish) == name_of(i)) return i;
  return top;
}

}  // namespace

Isa isa() {
  static Isa const value = chosen();
  return value;
}

bool has_bf16_dot() {
#ifdef LEYOLO_X86
  static bool const value = isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
  return value;
#else
  return false;
#endif
}

char const* name_of(Isa i) { return i == Isa::avx512 ? "avx512" : i == Isa::avx2 ? "avx2" : "baseline"; }

int lanes() { return isa() == Isa::avx512 ? 16 : isa() == Isa::avx2 ? 8 : 4; }

}  // namespace leyolo

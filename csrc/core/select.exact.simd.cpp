#include "core/exact_simd.h"
#include "core/select_args.h"

namespace leyolo::LEYOLO_ISA {

extern long long select_smallest(SelectArgs const& a) {
  long long found = 0;
  if (a.count == 0) return 0;
  float limit = __builtin_inff();  // the largest value kept, once `count` are
  auto const offer = [&](long long i) LEYOLO_LAMBDA {
    float const value = a.row[i];
    if (!(value < limit)) return;
    long long at = found < a.count ? found++ : a.count - 1;
    for (; at > 0 && value < a.values[at - 1]; --at) {
      a.values[at] = a.values[at - 1];
      a.indices[at] = a.indices[at - 1];
    }
    a.values[at] = value;
    a.indices[at] = int(i);
    if (found == a.count) limit = a.values[a.count - 1];
  };
  long long i = 0;
  for (; i + kLanes <= a.size; i += kLanes)
    for (unsigned bits = bits_of(load(a.row + i) < splat(limit)); bits; bits &= bits - 1)
      offer(i + __builtin_ctz(bits));
  for (; i < a.size; ++i) offer(i);
  return found;
}

}  // namespace leyolo::LEYOLO_ISA

// What a kernel needs from its caller beside the data: a thread pool on the CPU, a stream on the GPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace leyolo {

using Body = void (*)(int64_t begin, int64_t end, void* state);
// Runs body over [begin, end) in pieces of at least `grain`, on the threads of whoever calls us, and returns when all
// pieces are done. Calls from inside a body run in that thread.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, Body body, void* state);

struct Context {
  ParallelFor parallel = nullptr;  // never null on the CPU
  int threads = 1;                 // that `parallel` may use: who gives each of them memory needs to know
  void* stream = nullptr;          // cudaStream_t
};

template <class F>
void parallel_for(Context const& context, int64_t begin, int64_t end, int64_t grain, F&& f) {
  if (begin >= end) return;
  grain = std::max<int64_t>(grain, 1);
  if (end - begin <= grain) return f(begin, end);
  using Function = std::remove_reference_t<F>;
  context.parallel(
      begin, end, grain, [](int64_t b, int64_t e, void* state) { (*static_cast<Function*>(state))(b, e); },
      const_cast<std::remove_const_t<Function>*>(&f));
}

}  // namespace leyolo

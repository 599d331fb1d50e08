#include "ops/forward/forward.h"

#include <algorithm>
#include <chrono>

#include "core/dispatch.h"
#include "core/isa.h"
#include "ops/forward/forward_steps.h"

namespace leyolo {

namespace {

void in_this_thread(int64_t begin, int64_t end, int64_t, Body body, void* state) { body(begin, end, state); }

void run_image(View program, Memory const& memory, double* times, Context const& context) {
  int64_t const steps = program.shape[0];
  for (int64_t i = 0, next; i < steps; i = next) {
    int64_t const* const row = program.as<int64_t>() + i * kStepFields;
    next = i + 1 + (Step(row[kKind]) == Step::chain ? row[kChainSteps] : 0);
    if (!times) {
      run_step(row, memory, context);
      continue;
    }
    auto const start = std::chrono::steady_clock::now();
    run_step(row, memory, context);
    times[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
}

void forward_cpu(View x, View program, View const* weights, View arena, int64_t arena_size, View y, View times,
                 Context const& context) {
  int64_t const images = x.shape[0], x_size = x.numel() / images, y_size = y.numel() / images;
  auto const run = [&](int64_t image, int64_t worker, Context const& threads) {
    run_image(program,
              {x.as<char>() + image * x_size * size_of(x.dtype), x.dtype,
               arena.as<char>() + worker * arena_size * size_of(arena.dtype), arena.dtype,
               y.as<float>() + image * y_size, weights},
              times ? times.as<double>() : nullptr, threads);
  };
  // Images side by side need an arena each, and pay only where every worker has the same number of them.
  int64_t const workers = std::min(images, arena.numel() / arena_size);
  int64_t const together = workers > 1 ? images / workers * workers : 0;
  if (together > 0) {
    Context serial = context;
    serial.parallel = in_this_thread;
    parallel_for(context, 0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker)
        for (int64_t image = worker; image < together; image += workers) run(image, worker, serial);
    });
  }
  for (int64_t image = together; image < images; ++image) run(image, 0, context);
}

}  // namespace

void forward(View x, View program, View const* weights, int64_t weight_count, View arena, int64_t arena_size, View y,
             View times, Context const& context) {
  bool const cuda = x.device == Device::cuda;
  check(x.rank == 4 && (x.dtype == DType::f32 || x.dtype == DType::u8 || (cuda && x.dtype == arena.dtype)),
        "forward: x must be float32 or uint8 [N, H, W, C], got ", x);
  check(
      program.rank == 2 && program.shape[1] == kStepFields && program.dtype == DType::i64 && cpu_takes(program.device),
      "forward: program must be int64 [steps, ", int(kStepFields), "] on the CPU, got ", program);
  check(y.dtype == DType::f32 && y.rank > 1 && y.shape[0] == x.shape[0], "forward: y must be float32 [N, ...], got ",
        y);
  check(arena_size > 0 &&
            (arena.dtype == DType::f32 || arena.dtype == DType::bf16 || (cuda && arena.dtype == DType::f16)) &&
            arena.numel() >= arena_size,
        "forward: the arena must hold ", arena_size, " float32 or bfloat16 values, on CUDA also float16, got ", arena);
  check(cuda || arena.dtype == DType::f32 || has_bf16_dot(),
        "forward: bfloat16 needs a CPU with AVX512-BF16, and LEYOLO_ISA must not lower the instruction set");
  check_one_device("forward", x, {arena, y});
  check(!times || (!cuda && times.dtype == DType::f64 && times.numel() == program.shape[0] && x.shape[0] <= 1),
        "forward: times must be float64 [steps] on the CPU, for one image, got ", times, " and x ", x);
  for (int64_t i = 0; i < weight_count; ++i) check_one_device("forward", x, {weights[i]});
  check(!overlap(x, y) && !overlap(arena, y) && !overlap(arena, x), "forward: x, arena and y must not share memory");
  if (x.shape[0] == 0) return;
  check_program(program, x.device, x.dtype, arena.dtype, x.numel() / x.shape[0], y.numel() / x.shape[0], arena_size,
                weights, weight_count);
  LEYOLO_DISPATCH("forward", x.device, forward_cpu(x, program, weights, arena, arena_size, y, times, context),
                  forward_cuda(x, program, weights, arena, arena_size, y, context));
}

}  // namespace leyolo

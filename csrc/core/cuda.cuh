// For the CUDA twins: launches, shared memory and storage types. `<<<>>>` and `__shared__` appear nowhere else, so that
// kernels can also run on the CPU (LEYOLO_CUDA_SHIM, for tests).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#ifdef LEYOLO_CUDA_SHIM
#include "cuda_shim.h"
#endif

#include <stdexcept>
#include <string>

#include "core/check.h"
#include "core/context.h"

namespace leyolo {

constexpr int kThreads = 256;

// Tests have small maps: in the shim grids are small too, so that blocks take several tiles.
#ifdef LEYOLO_CUDA_SHIM
constexpr bool kShim = true;
#else
constexpr bool kShim = false;
#endif

inline unsigned blocks(int64_t n, int threads = kThreads) { return unsigned((n + threads - 1) / threads); }

// Shared memory of a block: an array of `count` T, and what the launch asked for (once per kernel), 128-byte aligned.
// Neither is zero at the start.
#ifdef LEYOLO_CUDA_SHIM
#define LEYOLO_SHARED(T, name, count) \
  static char name##_key;             \
  T(&name)[count] = *static_cast<T(*)[count]>(::shim::shared_memory(&name##_key, sizeof(T) * (count)))
#define LEYOLO_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::shim::dynamic_shared_memory())
#else
#define LEYOLO_SHARED(T, name, count) __shared__ T name[count]
#define LEYOLO_DYNAMIC_SHARED(T, name)                                  \
  extern __shared__ __align__(128) unsigned char leyolo_shared_bytes[]; \
  T* const name = reinterpret_cast<T*>(leyolo_shared_bytes)
#endif

inline void check_cuda(char const* name, cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(status));
}

#ifndef LEYOLO_CUDA_SHIM
// Together with static arrays it may pass the 48 KB that need no asking. All that there is, never what one launch
// needs: another thread, or a graph that is being captured, may need more of the same kernel.
inline void allow_shared_memory(char const* name, void const* kernel) {
  int device = 0, most = 0;
  cudaFuncAttributes found{};
  check_cuda(name, cudaGetDevice(&device));
  check_cuda(name, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  check_cuda(name, cudaFuncGetAttributes(&found, kernel));
  check_cuda(name, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        most - int(found.sharedSizeBytes)));
}
#endif

// Arguments convert to the kernel's parameters as in a plain call; a failed launch names the kernel.
template <class... P, class... A>
void launch(char const* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, void* stream, A... args) {
#ifdef LEYOLO_CUDA_SHIM
  (void)stream;
  auto body = [&] { kernel(static_cast<P>(args)...); };
  ::shim::run(
      name, reinterpret_cast<void const*>(kernel), grid, block, shared,
      [](void* state) { (*static_cast<decltype(body)*>(state))(); }, &body);
#else
  if (shared > 32 << 10) allow_shared_memory(name, reinterpret_cast<void const*>(kernel));
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  check_cuda(name, cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...));
#endif
}
#define LEYOLO_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ::leyolo::launch(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)

inline void fill_zero(void* pointer, int64_t bytes, void* stream) {
  if (bytes > 0) check_cuda("fill_zero", cudaMemsetAsync(pointer, 0, size_t(bytes), static_cast<cudaStream_t>(stream)));
}

template <class F>
void for_float_cuda(DType dtype, char const* op, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float());
    case DType::f64: return f(double());
    case DType::f16: return f(__half());
    case DType::bf16: return f(__nv_bfloat16());
    default: fail(op, ": expected float32, float64, float16 or bfloat16, got ", dtype);
  }
}

}  // namespace leyolo

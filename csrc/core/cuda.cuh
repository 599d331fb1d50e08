// For the CUDA twins: launches and storage types. `<<<>>>` appears nowhere else.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "core/check.h"
#include "core/context.h"

namespace leyolo {

constexpr int kThreads = 256;

inline unsigned blocks(int64_t n, int threads = kThreads) { return unsigned((n + threads - 1) / threads); }

// Arguments convert to the kernel's parameters as in a plain call; a failed launch names the kernel.
template <class... P, class... A>
void launch(char const* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, void* stream, A... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  cudaError_t const status = cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
  if (status != cudaSuccess) throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(status));
}
#define LEYOLO_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ::leyolo::launch(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)

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

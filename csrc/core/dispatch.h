// The only place that chooses between the CPU and the CUDA twin of an op.
#pragma once

#include "core/check.h"

// LEYOLO_DISPATCH("box_iou", a.device, box_iou_cpu(...), box_iou_cuda(...)).
#ifdef LEYOLO_WITH_CUDA
#define LEYOLO_DISPATCH(op, where, on_cpu, on_cuda) ((where) == ::leyolo::Device::cpu ? (on_cpu) : (on_cuda))
#else
#define LEYOLO_DISPATCH(op, where, on_cpu, on_cuda)                                                              \
  (::leyolo::check((where) == ::leyolo::Device::cpu, op ": this build of leyolo has no CUDA kernels; "           \
                                                        "rebuild where nvcc is found (leyolo doctor says how)"), \
   (on_cpu))
#endif

namespace leyolo {

// Asked by ops without a CUDA twin. In the shim every tensor counts as CUDA's, and they go on running on the CPU;
// tests/test_house.py lists them.
#ifdef LEYOLO_CUDA_SHIM
inline bool cpu_takes(Device) { return true; }
#else
inline bool cpu_takes(Device where) { return where == Device::cpu; }
#endif

}  // namespace leyolo

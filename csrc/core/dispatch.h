// The only place that chooses between the CPU and the CUDA twin of an op.
#pragma once

#include "core/check.h"

// LEYOLO_DISPATCH("box_iou", a.device, box_iou_cpu(...), box_iou_cuda(...)); an op that has no CUDA twin yet uses
// LEYOLO_CPU_ONLY.
#ifdef LEYOLO_WITH_CUDA
#define LEYOLO_DISPATCH(op, where, on_cpu, on_cuda) ((where) == ::leyolo::Device::cpu ? (on_cpu) : (on_cuda))
#else
#define LEYOLO_DISPATCH(op, where, on_cpu, on_cuda)                                                              \
  (::leyolo::check((where) == ::leyolo::Device::cpu, op ": this build of leyolo has no CUDA kernels; "           \
                                                        "rebuild where nvcc is found (leyolo doctor says how)"), \
   (on_cpu))
#endif
#define LEYOLO_CPU_ONLY(op, where, on_cpu) \
  (::leyolo::check((where) == ::leyolo::Device::cpu, op ": has no CUDA kernel, move the tensors to the CPU"), (on_cpu))

// Everything that the torch adapters share: tensors as Views, the caller's threads and stream. LibTorch stable ABI
// only.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "core/check.h"
#include "core/context.h"

namespace leyolo {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

View view(Tensor const& t, char const* what);          // row-major; else an error that names `what`
View view(OptionalTensor const& t, char const* what);  // an absent tensor gives an absent View
View view_nhwc(Tensor const& t, char const* what);     // [N, C, H, W] in channels_last memory, seen as [N, H, W, C]
bool is_nhwc(Tensor const& t);                         // [N, C, H, W] in channels_last memory

Tensor empty(Tensor const& like, std::vector<int64_t> const& shape, ScalarType dtype);
Tensor empty_nhwc(Tensor const& like, int64_t n, int64_t c, int64_t h, int64_t w);  // logically [n, c, h, w]

ScalarType accumulator_of(Tensor const& t);  // float64 for float64, else float32

// The caller's threads (CPU) or current stream (CUDA), and the tensor's device made current while this lives.
class OnDevice {
 public:
  explicit OnDevice(Tensor const& t);
  operator Context const&() const { return context_; }

 private:
  Context context_;
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
};

}  // namespace leyolo

// LEYOLO_TORCH_OP(box_iou, "(Tensor boxes1, Tensor boxes2) -> Tensor") registers torch_box_iou for both devices: the
// core picks the twin.
#define LEYOLO_TORCH_OP(name, schema)                                                    \
  STABLE_TORCH_LIBRARY_FRAGMENT(leyolo, m) { m.def(#name schema); }                      \
  STABLE_TORCH_LIBRARY_IMPL(leyolo, CPU, m) { m.impl(#name, TORCH_BOX(&torch_##name)); } \
  STABLE_TORCH_LIBRARY_IMPL(leyolo, CUDA, m) { m.impl(#name, TORCH_BOX(&torch_##name)); }

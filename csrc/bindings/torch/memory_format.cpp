// NCHW to NHWC and back on the CPU: a better copy than torch's own for maps that are not small or narrow.
#include "bindings/torch/common.h"
#include "core/transpose.h"

namespace leyolo {

// x [N, C, H, W] float32 in one of the two formats -> its values in the other: channels last, or row-major.
Tensor torch_memory_format(Tensor const& x, bool channels_last) {
  check(x.dim() == 4, "memory_format: x must be float32 [N, C, H, W], got ", x.dim(), " dimensions");
  int64_t const n = x.size(0), c = x.size(1), area = x.size(2) * x.size(3);
  View const from = channels_last ? view(x, "memory_format: x") : view_nhwc(x, "memory_format: x");
  check(from.dtype == DType::f32, "memory_format: x must be float32 [N, C, H, W], got ", from);
  Tensor const y = channels_last ? empty_nhwc(x, n, c, x.size(2), x.size(3))
                                 : empty(x, {n, c, x.size(2), x.size(3)}, ScalarType::Float);
  if (from.numel() == 0) return y;
  auto* const to = static_cast<float*>(y.data_ptr());
  transpose_matrices(from.as<float>(), n, channels_last ? c : area, channels_last ? area : c, to, OnDevice(x));
  return y;
}

STABLE_TORCH_LIBRARY_FRAGMENT(leyolo, m) { m.def("memory_format(Tensor x, bool channels_last) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(leyolo, CPU, m) { m.impl("memory_format", TORCH_BOX(&torch_memory_format)); }

}  // namespace leyolo

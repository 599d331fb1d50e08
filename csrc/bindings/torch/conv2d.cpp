#include "ops/conv2d/conv2d.h"

#include "bindings/torch/common.h"
#include "core/activation_math.h"

namespace leyolo {

Tensor torch_conv2d(Tensor const& x, Tensor const& weight, OptionalTensor const& bias, OptionalTensor const& residual,
                    int64_t stride, int64_t padding, std::string activation) {
  View const xv = view_nhwc(x, "conv2d: x"), w = view(weight, "conv2d: weight"), b = view(bias, "conv2d: bias"),
             r = residual ? view_nhwc(*residual, "conv2d: residual") : View();
  Conv2d const params{stride, padding, activation_from(activation, "conv2d")};
  check(w.rank == 4 && w.shape[1] == xv.shape[3] && w.numel() > 0 && w.dtype == xv.dtype, "conv2d: weight must be [O, ",
        xv.shape[3], ", k, k] in the dtype of x ", xv, ", got ", w);
  check_window("conv2d", w.shape[2], stride, padding);
  int64_t const k = w.shape[2], o = w.shape[0];
  Tensor const y = empty_nhwc(x, xv.shape[0], o, conv_output_size(xv.shape[1], k, stride, padding),
                              conv_output_size(xv.shape[2], k, stride, padding));
  View const yv = view_nhwc(y, "conv2d: y");
  Tensor const packed = empty(x, {conv2d_packed_size(w)}, ScalarType::Float);
  Tensor const workspace = empty(x, {conv2d_workspace(xv, yv, r)}, ScalarType::Float);
  OnDevice const context(x);
  conv2d_pack(w, b, view(packed, "conv2d: packed"), context);
  conv2d(xv, view(packed, "conv2d: packed"), r, yv, view(workspace, "conv2d: workspace"), k, params, context);
  return y;
}

LEYOLO_TORCH_OP(conv2d,
                "(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, int stride, int padding, str activation) "
                "-> Tensor")

}  // namespace leyolo

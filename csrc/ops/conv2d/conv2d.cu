// Float16 and bfloat16, and who takes what.
#include "ops/conv2d/conv2d_mma.cuh"

namespace leyolo {

void conv2d_images_cuda(Conv2dImages const& a, DType type, Context const& context) {
  check(a.pixels() <= (int64_t(1) << 31) - 256 && int64_t(a.kernel) * a.kernel * a.in_channels < 1 << 29,
        "conv2d: at most 2^31 - 256 pixels and 2^29 values in a window, got ", a.pixels(), " and kernel ", a.kernel,
        " of ", a.in_channels, " channels");
  if (type == DType::f16) return conv2d_tensor_cores<__half>(a, context);
  if (type == DType::bf16) return conv2d_tensor_cores<__nv_bfloat16>(a, context);
  a.tf32 ? conv2d_tf32_cuda(a, context) : conv2d_float_cuda(a, context);
}

void conv2d_cuda(View x, View packed, View residual, View y, int64_t kernel, Conv2d const& params,
                 Context const& context) {
  int64_t const x_image = x.shape[1] * x.shape[2] * x.shape[3], y_image = y.shape[1] * y.shape[2] * y.shape[3];
  int const in = int(x.shape[3]), out = int(y.shape[3]);
  conv2d_images_cuda({x.data,
                      packed.data,
                      residual ? residual.data : nullptr,
                      y.data,
                      x.dtype,
                      y.dtype,
                      x.shape[0],
                      x_image,
                      y_image,
                      y_image,
                      int(x.shape[1]),
                      int(x.shape[2]),
                      int(y.shape[1]),
                      int(y.shape[2]),
                      in,
                      out,
                      out,
                      in,
                      out,
                      int(kernel),
                      int(params.stride),
                      int(params.padding),
                      params.activation},
                     x.dtype, context);
}

}  // namespace leyolo

// Float32 maps on tensor cores: products in TF32 (10 bits of mantissa), sums in float32.
#include "ops/conv2d/conv2d_mma.cuh"

namespace leyolo {

void conv2d_tf32_cuda(Conv2dImages const& a, Context const& context) { conv2d_tensor_cores<float>(a, context); }

}  // namespace leyolo

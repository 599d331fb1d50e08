// The depthwise step of `forward`: slices of wider maps, even channels in pairs and odd ones by themselves.
#include "check.h"
#include "on_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "tensor.h"

using namespace leyolo;

namespace {

float expected(Array& x, Array& weight, Array& bias, DepthwiseImages const& a, int image, int row, int column, int c) {
  double sum = bias.data()[c];
  for (int ky = 0; ky < a.kernel; ++ky)
    for (int kx = 0; kx < a.kernel; ++kx) {
      int const i = row * a.stride - a.padding + ky, j = column * a.stride - a.padding + kx;
      if (i < 0 || i >= a.height || j < 0 || j >= a.width) continue;
      sum += double(x.data()[image * a.x_image + (i * a.width + j) * a.x_pitch + c]) *
             weight.data()[(c * a.kernel + ky) * a.kernel + kx];
    }
  return float(sum);
}

}  // namespace

TEST(depthwise_images_are_their_sums) {
  int const images = 2, height = 7, width = 6;
  for (int channels : {1, 3, 4})
    for (int kernel : {3, 5})
      for (int stride : {1, 2}) {
        int const padding = kernel / 2, pitch = channels + 2;
        int const out_height = (height + 2 * padding - kernel) / stride + 1,
                  out_width = (width + 2 * padding - kernel) / stride + 1;
        Array x = random_array({images, height, width, pitch}, -1, 1, 1),
              y(DType::f32, {images, out_height, out_width, pitch});
        Array weight = random_array({channels, 1, kernel, kernel}, -1, 1, 2), bias = random_array({channels}, -1, 1, 3);
        Array packed(DType::f32, {depthwise_cuda_packed_size(channels, kernel, DType::f32)});
        depthwise_pack_cuda(on_cuda(weight), on_cuda(bias), on_cuda(packed), test_context());
        DepthwiseImages const a{x.data(),
                                packed.data(),
                                y.data(),
                                DType::f32,
                                images,
                                int64_t(height) * width * pitch,
                                int64_t(out_height) * out_width * pitch,
                                height,
                                width,
                                out_height,
                                out_width,
                                pitch,
                                pitch,
                                channels,
                                kernel,
                                stride,
                                padding,
                                Activation::none};
        depthwise_images_cuda(a, DType::f32, test_context());
        for (int image = 0; image < images; ++image)
          for (int row = 0; row < out_height; ++row)
            for (int column = 0; column < out_width; ++column) {
              float const* const to = y.data() + image * a.y_image + (row * out_width + column) * pitch;
              for (int c = 0; c < channels; ++c)
                CHECK_NEAR(to[c], expected(x, weight, bias, a, image, row, column, c), 1e-5);
              CHECK(to[channels] == 0 && to[channels + 1] == 0);  // the neighbouring slice
            }
      }
}

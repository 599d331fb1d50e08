// Steps of `forward` that are one kernel together, against the kernels of their single steps.
#include <cmath>
#include <limits>

#include "check.h"
#include "half_array.h"
#include "on_cuda.h"
#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/forward/forward_head.h"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"
#include "ops/max_pool2d/max_pool2d_cuda.h"

using namespace leyolo;

namespace {

Array random_in_type(DType type, std::initializer_list<int64_t> shape, float range, unsigned seed) {
  Array values = random_array(shape, -range, range, seed);
  return in_type(values, type);
}

Array packed_dense(DType type, int64_t out, int64_t in, int64_t kernel, float range, unsigned seed) {
  Array weight = random_in_type(type, {out, in, kernel, kernel}, range, seed),
        bias = random_in_type(type, {out}, 1, seed + 1);
  Array packed(DType::f32, {conv2d_packed_size(on_cuda(weight))});
  conv2d_pack(on_cuda(weight), on_cuda(bias), on_cuda(packed));
  return packed;
}

Array packed_depthwise(DType type, int64_t channels, int64_t kernel, float range, unsigned seed) {
  Array weight = random_in_type(type, {channels, 1, kernel, kernel}, range, seed),
        bias = random_in_type(type, {channels}, 1, seed + 1);
  Array packed(DType::f32, {depthwise_cuda_packed_size(channels, kernel, type)});
  depthwise_pack_cuda(on_cuda(weight), on_cuda(bias), on_cuda(packed), test_context());
  return packed;
}

void* at(Array& a, int64_t value) { return a.memory.get() + value * size_of(a.view.dtype); }

// A 1x1 convolution between maps of `pixels` pixels an image.
void pointwise(DType type, void* x, int x_pitch, Array& packed, void* y, DType y_type, int y_pitch, int in, int out,
               int64_t images, int height, int width, Activation activation) {
  int64_t const pixels = int64_t(height) * width;
  conv2d_images_cuda({x,
                      packed.data(),
                      nullptr,
                      y,
                      type,
                      y_type,
                      images,
                      pixels * x_pitch,
                      pixels * y_pitch,
                      0,
                      height,
                      width,
                      height,
                      width,
                      x_pitch,
                      y_pitch,
                      0,
                      in,
                      out,
                      1,
                      1,
                      0,
                      activation},
                     type, test_context());
}

void compare_head(DType type, int64_t images, int height, int width, int in, int box, int cls, int box_out,
                  int cls_out) {
  int const middle = box + cls, out = box_out + cls_out;
  int64_t const pixels = int64_t(height) * width;
  Array x = random_in_type(type, {images, height, width, in}, 1, 1);
  Array expand = packed_dense(type, middle, in, 1, 0.5, 2), first = packed_depthwise(type, middle, 3, 0.4f, 4),
        second = packed_depthwise(type, middle, 3, 0.4f, 6), to_box = packed_dense(type, box_out, box, 1, 0.3f, 8),
        to_cls = packed_dense(type, cls_out, cls, 1, 0.3f, 10);
  Array a(type, {images, height, width, middle}), b(type, {images, height, width, middle}),
      c(type, {images, height, width, middle});
  Array staged(DType::f32, {images, height, width, out}), fused(DType::f32, {images, height, width, out});
  Activation const silu = Activation::silu, none = Activation::none;
  pointwise(type, at(x, 0), in, expand, at(a, 0), type, middle, in, middle, images, height, width, silu);
  for (auto [from, weight, to] : {std::tuple{&a, &first, &b}, std::tuple{&b, &second, &c}})
    depthwise_images_cuda({at(*from, 0), weight->data(), at(*to, 0), type, images, pixels * middle, pixels * middle,
                           height, width, height, width, middle, middle, middle, 3, 1, 1, silu},
                          type, test_context());
  pointwise(type, at(c, 0), middle, to_box, at(staged, 0), DType::f32, out, box, box_out, images, height, width, none);
  pointwise(type, at(c, box), middle, to_cls, at(staged, box_out), DType::f32, out, cls, cls_out, images, height, width,
            none);
  auto const branch = [&](Array& project, int channels, int outputs, int first_channel, int first_output) {
    return HeadBranch{at(x, 0),
                      expand.data(),
                      first.data(),
                      second.data(),
                      project.data(),
                      fused.data() + first_output,
                      pixels * in,
                      pixels * out,
                      height,
                      width,
                      in,
                      out,
                      in,
                      channels,
                      outputs,
                      first_channel,
                      middle,
                      silu};
  };
  HeadBranch const branches[] = {branch(to_box, box, box_out, 0, 0), branch(to_cls, cls, cls_out, box, box_out)};
  head_images_cuda(branches, 2, images, type, test_context());
  // The maps in between are rounded alike, but for sums in another order that fall on the other side.
  double const bound = 0.3 * epsilon_of(type) * (1 + std::sqrt(double(std::max(box, cls))) / 4);
  for (int64_t i = 0; i < fused.view.numel(); ++i)
    CHECK_NEAR(fused.data()[i], staged.data()[i], bound * (1 + std::abs(double(staged.data()[i]))));
}

void compare_pools(DType type, int64_t images, int height, int width, int channels) {
  int const pitch = 4 * channels;
  Array x = random_in_type(type, {images, height, width, pitch}, 1, 1);
  float const nan = std::numeric_limits<float>::quiet_NaN(), low = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < std::min<int64_t>(channels, 2); ++i) {
    Array special(DType::f32, {1});
    special.data()[0] = i ? low : nan;
    Array value = in_type(special, type);
    std::memcpy(at(x, i), at(value, 0), size_t(size_of(type)));
  }
  Array fused = random_in_type(type, {images, height, width, pitch}, 1, 1);
  std::memcpy(at(fused, 0), at(x, 0), size_t(x.view.numel() * size_of(type)));
  int64_t const image = int64_t(height) * width * pitch;
  for (int i = 0; i < 3; ++i)
    max_pool2d_images_cuda({at(x, i * channels), at(x, (i + 1) * channels), images, image, image, height, width, pitch,
                            pitch, channels, 5},
                           type, test_context());
  max_pool_chain_cuda({at(fused, 0), at(fused, channels), channels, images, image, height, width, pitch, channels},
                      type, test_context());
  CHECK(same_bits(x, fused));
}

struct Block {
  Array expand, depthwise, project;
  int in, middle, out, kernel, stride;

  Block(DType type, int in_channels, int middle_channels, int out_channels, int k, int s)
      : expand(packed_dense(type, middle_channels, in_channels, 1, 0.5f, 20)),
        depthwise(packed_depthwise(type, middle_channels, k, 0.4f, 22)),
        project(packed_dense(type, out_channels, middle_channels, 1, 0.3f, 24)),
        in(in_channels),
        middle(middle_channels),
        out(out_channels),
        kernel(k),
        stride(s) {}

  BottleneckImages images(void* x, void* y, int64_t count, int64_t x_image, int pitch, int height, int width,
                          bool expands) {
    int const out_height = (height + kernel / 2 * 2 - kernel) / stride + 1,
              out_width = (width + kernel / 2 * 2 - kernel) / stride + 1;
    return {x,
            expands ? expand.data() : nullptr,
            depthwise.data(),
            project.data(),
            nullptr,
            y,
            count,
            x_image,
            int64_t(out_height) * out_width * out,
            0,
            height,
            width,
            out_height,
            out_width,
            pitch,
            out,
            0,
            in,
            middle,
            out,
            kernel,
            stride,
            kernel / 2,
            Activation::silu};
  }
};

void check_same(Array& found, Array& expected, DType type) {
  for (int64_t i = 0; i < found.view.numel(); ++i) {
    double const e = value_at(expected, i);
    CHECK_NEAR(value_at(found, i), e, epsilon_of(type) * (1 + std::abs(e)));
  }
}

void compare_stem(DType type, DType image_type, int64_t images, int height, int width, int channels) {
  int const h = (height - 1) / 2 + 1, w = (width - 1) / 2 + 1;
  Array floats = random_array({images, height, width, 3}, 0, 1, 1);
  Array x = image_type == DType::u8 ? Array(DType::u8, {images, height, width, 3}) : in_type(floats, image_type);
  if (image_type == DType::u8)
    for (int64_t i = 0; i < x.view.numel(); ++i) x.data<uint8_t>()[i] = uint8_t(floats.data()[i] * 255);
  Array stem = packed_dense(type, channels, 3, 3, 1, 30);
  Block block(type, channels, 24, 16, 3, 2);
  int const oh = (h - 1) / 2 + 1, ow = (w - 1) / 2 + 1;
  Array middle(type, {images, h, w, channels}), staged(type, {images, oh, ow, 16}), fused(type, {images, oh, ow, 16});
  int64_t const x_image = int64_t(height) * width * 3, map = int64_t(h) * w * channels;
  conv2d_images_cuda({at(x, 0),
                      stem.data(),
                      nullptr,
                      at(middle, 0),
                      image_type,
                      type,
                      images,
                      x_image,
                      map,
                      0,
                      height,
                      width,
                      h,
                      w,
                      3,
                      channels,
                      0,
                      3,
                      channels,
                      3,
                      2,
                      1,
                      Activation::silu},
                     type, test_context());
  bottleneck_images_cuda(block.images(at(middle, 0), at(staged, 0), images, map, channels, h, w, true), type,
                         test_context());
  BottleneckImages a = block.images(at(x, 0), at(fused, 0), images, x_image, channels, h, w, true);
  a.stem = {stem.data(), image_type, height, width, 3, 3, 2, 1};
  bottleneck_images_cuda(a, type, test_context());
  check_same(fused, staged, type);
}

// The first channels come from a map of half the size.
void compare_upsampling(DType type, int64_t images, int height, int width, int low_channels, int channels,
                        bool expands) {
  Array low = random_in_type(type, {images, height / 2, width / 2, low_channels}, 1, 1),
        x = random_in_type(type, {images, height, width, channels}, 1, 2);
  Block block(type, channels, expands ? 40 : channels, 16, 5, 1);
  Array staged(type, {images, height, width, 16}), fused(type, {images, height, width, 16});
  int64_t const map = int64_t(height) * width * channels;
  BottleneckImages a = block.images(at(x, 0), at(fused, 0), images, map, channels, height, width, expands);
  a.low = at(low, 0), a.low_image = int64_t(height / 2) * (width / 2) * low_channels;
  a.low_pitch = a.low_channels = low_channels;
  bottleneck_images_cuda(a, type, test_context());
  for (int64_t image = 0; image < images; ++image)
    for (int r = 0; r < height; ++r)
      for (int c = 0; c < width; ++c)
        std::memcpy(at(x, image * map + (int64_t(r) * width + c) * channels),
                    at(low, image * a.low_image + (int64_t(r / 2) * (width / 2) + c / 2) * low_channels),
                    size_t(low_channels * size_of(type)));
  bottleneck_images_cuda(block.images(at(x, 0), at(staged, 0), images, map, channels, height, width, expands), type,
                         test_context());
  CHECK(same_bits(fused, staged));
}

}  // namespace

TEST(blocks_head_is_its_steps) {
  for (DType type : {DType::f16, DType::bf16}) {
    compare_head(type, 2, 5, 7, 16, 64, 80, 64, 80);
    compare_head(type, 1, 1, 1, 8, 8, 16, 16, 1);
    compare_head(type, 1, 11, 18, 96, 40, 24, 20, 33);
  }
  compare_head(DType::f16, 1, 4, 9, 32, 16, 104, 64, 101);
}

TEST(blocks_pools_are_their_steps) {
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    compare_pools(type, 2, 1, 1, 8);
    compare_pools(type, 1, 7, 23, 24);
  }
  compare_pools(DType::f16, 1, 20, 20, 16);
}

TEST(blocks_stem_is_its_steps) {
  for (DType type : {DType::f16, DType::bf16})
    for (DType image : {DType::u8, DType::f32, type}) {
      compare_stem(type, image, 2, 23, 38, 16);
      compare_stem(type, image, 1, 1, 2, 24);
    }
}

TEST(blocks_upsampling_is_its_steps) {
  compare_upsampling(DType::f16, 2, 6, 10, 24, 40, true);
  compare_upsampling(DType::bf16, 1, 14, 4, 8, 40, false);
  compare_upsampling(DType::f16, 1, 2, 2, 16, 16, true);
}

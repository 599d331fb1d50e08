#include "check.h"
#include "core/half.h"
#include "ops/letterbox/letterbox.h"
#include "tensor.h"

using namespace leyolo;

namespace {

Array random_image(int64_t batch, int64_t height, int64_t width) {
  Array image(DType::u8, {batch, height, width, 3});
  std::mt19937 engine(unsigned(height * 1000 + width));
  for (int64_t i = 0; i < image.view.numel(); ++i) image.data<uint8_t>()[i] = uint8_t(engine());
  return image;
}

Array run(Array& image, Letterbox const& g, DType dtype, int64_t value = 114, bool swap_rb = false) {
  Array out(dtype, {image.view.shape[0], g.height, g.width, 3});
  Array workspace(DType::u8, {letterbox_workspace(out.view, g)});
  letterbox(image.view, out.view, workspace.view, g, value, swap_rb, test_context());
  return out;
}

// Against bilinear interpolation in double: 11-bit weights and truncations stay within one level of 255.
void compare(int64_t height, int64_t width, int64_t to_height, int64_t to_width, bool swap_rb) {
  Letterbox const g = letterbox_geometry(height, width, to_height, to_width, 32, false, true);
  Array image = random_image(2, height, width);
  Array out = run(image, g, DType::f32, 9, swap_rb), half = run(image, g, DType::f16, 9, swap_rb);
  Array bytes = run(image, g, DType::u8, 9, swap_rb);
  auto const tap = [](int64_t i, int64_t from, int64_t to) {
    return std::min(std::max((double(i) + 0.5) * double(from) / double(to) - 0.5, 0.0), double(from - 1));
  };
  int wrong = 0;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t y = 0; y < g.height; ++y)
      for (int64_t x = 0; x < g.width; ++x)
        for (int64_t c = 0; c < 3; ++c) {
          int64_t const at = ((b * g.height + y) * g.width + x) * 3 + c, v = y - g.top, u = x - g.left;
          double expected = 9;
          if (v >= 0 && v < g.resized_height && u >= 0 && u < g.resized_width) {
            double const sy = tap(v, height, g.resized_height), sx = tap(u, width, g.resized_width);
            auto const pixel = [&](double row, double column) {
              int64_t const i = std::min(int64_t(row), height - 1), j = std::min(int64_t(column), width - 1);
              return double(image.data<uint8_t>()[((b * height + i) * width + j) * 3 + (swap_rb ? 2 - c : c)]);
            };
            double const fy = sy - std::floor(sy), fx = sx - std::floor(sx);
            expected = (1 - fy) * ((1 - fx) * pixel(sy, sx) + fx * pixel(sy, sx + 1)) +
                       fy * ((1 - fx) * pixel(sy + 1, sx) + fx * pixel(sy + 1, sx + 1));
          }
          wrong += std::fabs(out.data()[at] * 255 - expected) > 1.01;
          wrong += out.data()[at] != float(bytes.data<uint8_t>()[at]) / 255.0f;
          wrong += float16(out.data()[at]).bits != half.data<float16>()[at].bits;
        }
  CHECK(wrong == 0);
}

}  // namespace

TEST(letterbox_sizes) {
  int64_t const sizes[][4] = {{20, 30, 16, 16}, {7, 5, 40, 33}, {32, 16, 16, 8},  {9, 9, 9, 9},  {1, 1, 12, 12},
                              {1, 90, 16, 16},  {90, 1, 8, 8},  {2, 2, 64, 7},    {5, 4, 2, 31}, {50, 50, 1, 1},
                              {3, 2, 30, 20},   {13, 8, 5, 3},  {11, 200, 64, 64}};
  for (auto const& s : sizes)
    for (bool swap_rb : {false, true}) compare(s[0], s[1], s[2], s[3], swap_rb);
}

// Every width up to a few vectors: no load leaves the image.
TEST(letterbox_half_size_averages) {
  for (int64_t width = 1; width < 40; ++width)
    for (bool swap_rb : {false, true}) {
      Array image = random_image(1, 6, 2 * width);
      Array out = run(image, letterbox_geometry(6, 2 * width, 3, width, 1, false, true), DType::f32, 114, swap_rb);
      int64_t const row = 6 * width;
      int wrong = 0;
      for (int64_t y = 0; y < 3; ++y)
        for (int64_t x = 0; x < width; ++x)
          for (int64_t c = 0; c < 3; ++c) {
            uint8_t const* p = image.data<uint8_t>() + 2 * y * row + 6 * x + (swap_rb ? 2 - c : c);
            float const expected = float((p[0] + p[3] + p[row] + p[row + 3] + 2) >> 2) / 255.0f;
            wrong += out.data()[(y * width + x) * 3 + c] != expected;
          }
      CHECK(wrong == 0);
    }
}

TEST(letterbox_rejects) {
  Letterbox const g = letterbox_geometry(4, 4, 8, 8, 32, false, true);
  Array image = random_image(1, 4, 4), grey(DType::u8, {1, 4, 4, 1}), floats(DType::f32, {1, 4, 4, 3});
  CHECK_THROWS(run(grey, g, DType::f32));
  CHECK_THROWS(run(floats, g, DType::f32));
  CHECK_THROWS(run(image, g, DType::f64));
  CHECK_THROWS(run(image, g, DType::f32, 256));
  Letterbox off = g;
  off.left = 1;
  CHECK_THROWS(run(image, off, DType::f32));
  CHECK_THROWS(letterbox_geometry(0, 4, 8, 8, 32, false, true));
}

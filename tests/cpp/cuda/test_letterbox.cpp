#include "check.h"
#include "on_cuda.h"
#include "ops/letterbox/letterbox.h"
#include "tensor.h"

using namespace leyolo;

namespace {

void compare(int64_t height, int64_t width, int64_t to_height, int64_t to_width, bool rect = false) {
  Letterbox const g = letterbox_geometry(height, width, to_height, to_width, 32, rect, true);
  Array image(DType::u8, {2, height, width, 3});
  std::mt19937 engine(unsigned(height * 1000 + width));
  for (int64_t i = 0; i < image.view.numel(); ++i) image.data<uint8_t>()[i] = uint8_t(engine());
  for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::u8})
    for (bool swap : {false, true}) {
      Array cpu(dtype, {2, g.height, g.width, 3}), cuda(dtype, {2, g.height, g.width, 3});
      Array workspace(DType::u8, {letterbox_workspace(cpu.view, g)}), none(DType::u8, {0});
      letterbox(image.view, cpu.view, workspace.view, g, 114, swap, test_context());
      letterbox(on_cuda(image), on_cuda(cuda), on_cuda(none), g, 114, swap, test_context());
      CHECK(same_bits(cpu, cuda));
    }
}

}  // namespace

TEST(letterbox_is_the_same_on_both_devices) {
  compare(1, 1, 5, 7);
  compare(7, 5, 7, 5);
  compare(20, 30, 10, 15);
  compare(20, 30, 32, 32);
  compare(33, 47, 32, 64);
  compare(51, 37, 19, 23);
  compare(9, 300, 140, 140);
  compare(100, 75, 64, 64, true);
  compare(5, 200, 16, 131);
}

TEST(letterbox_without_images) {
  Letterbox const g = letterbox_geometry(4, 4, 8, 8, 32, false, true);
  Array image(DType::u8, {0, 4, 4, 3}), out(DType::f32, {0, 8, 8, 3}), none(DType::u8, {0});
  letterbox(on_cuda(image), on_cuda(out), on_cuda(none), g, 114, false, test_context());
  CHECK(out.view.numel() == 0);
}

#include "check.h"
#include "core/conv_size.h"
#include "half_array.h"
#include "on_cuda.h"
#include "ops/inverted_bottleneck/inverted_bottleneck.h"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"

using namespace leyolo;

namespace {

// The public op against the CPU twin, which keeps the maps in between in float32.
void compare(DType type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t middle, int64_t out, int64_t k,
             int64_t stride, bool expands, Activation activation = Activation::silu) {
  int64_t const p = k / 2, oh = conv_output_size(h, k, stride, p), ow = conv_output_size(w, k, stride, p);
  Array f[] = {random_array({n, h, w, c}, -1, 1, 1), random_array({middle, c, 1, 1}, -0.5, 0.5, 2),
               random_array({middle}, -1, 1, 3),     random_array({middle, 1, k, k}, -0.3f, 0.3f, 4),
               random_array({middle}, -1, 1, 5),     random_array({out, middle, 1, 1}, -0.3f, 0.3f, 6),
               random_array({out}, -1, 1, 7)};
  Array t[] = {in_type(f[0], type), in_type(f[1], type), in_type(f[2], type), in_type(f[3], type),
               in_type(f[4], type), in_type(f[5], type), in_type(f[6], type)};
  Array cpu(type, {n, oh, ow, out}), cuda(type, {n, oh, ow, out});
  InvertedBottleneck const params{stride, activation, stride == 1 && c == out};
  auto const run = [&](auto&& view, Array& y) {
    View const ew = expands ? view(t[1]) : View(), eb = expands ? view(t[2]) : View();
    int64_t const bytes =
        inverted_bottleneck_workspace(view(t[0]), ew, view(t[3]), view(t[5]), view(y), params, test_context());
    Array workspace(DType::u8, {bytes});
    inverted_bottleneck(view(t[0]), ew, eb, view(t[3]), view(t[4]), view(t[5]), view(t[6]), view(y), view(workspace),
                        params, test_context());
  };
  run([](Array const& a) { return a.view; }, cpu);
  run([](Array const& a) { return on_cuda(a); }, cuda);
  // Maps in between are rounded to the type.
  double const bound = type == DType::f32 ? 1e-5 : 0.6 * epsilon_of(type) * (1 + std::sqrt(double(middle)) / 4);
  for (int64_t i = 0; i < cpu.view.numel(); ++i) {
    double const expected = value_at(cpu, i);
    CHECK_NEAR(value_at(cuda, i), expected, bound + epsilon_of(type) * std::abs(expected));
  }
}

}  // namespace

TEST(inverted_bottleneck_cuda_blocks) {
  for (DType type : {DType::f16, DType::bf16}) {
    compare(type, 1, 5, 6, 16, 40, 24, 3, 1, true);
    compare(type, 2, 9, 7, 24, 96, 40, 5, 2, true);
    compare(type, 1, 6, 5, 64, 72, 64, 5, 1, true);
    compare(type, 1, 7, 9, 16, 16, 16, 3, 2, false);
    compare(type, 1, 4, 5, 40, 40, 24, 3, 1, false);
    compare(type, 1, 1, 1, 8, 8, 8, 5, 1, true, Activation::hardswish);
  }
  compare(DType::f16, 1, 10, 10, 96, 192, 96, 5, 1, true);
  compare(DType::f16, 1, 8, 10, 32, 64, 128, 3, 2, true, Activation::relu6);
}

TEST(inverted_bottleneck_cuda_staged) {
  compare(DType::f32, 2, 6, 5, 16, 24, 16, 3, 1, true);
  compare(DType::f16, 1, 5, 4, 7, 10, 7, 3, 1, true);
  compare(DType::bf16, 1, 9, 5, 12, 12, 5, 3, 2, false);
  compare(DType::f16, 2, 5, 5, 8, 24, 136, 5, 1, true);
}

// What a tile takes is what its kernel counts; small maps get small tiles, wide ones do not miss the limit.
TEST(inverted_bottleneck_cuda_tiles) {
  for (int64_t images : {1, 8, 64})
    for (int64_t shared : {99 << 10, 163 << 10, 227 << 10})
      for (int size : {1, 20, 40, 80, 160})
        for (int kernel : {3, 5}) {
          BottleneckShape const shape{images, size, size, 96, 576, 96, kernel, 1, true};
          BottleneckTile const tile = bottleneck_tile(shape, shared, 132);
          CHECK(tile.warps > 0 && tile.shared <= shared && tile.rows * tile.columns <= 16 * tile.warps);
          CHECK(tile.columns % 4 == 0 && tile.shared == bottleneck_shared(shape, tile.warps, tile.rows, tile.columns));
        }
  CHECK(bottleneck_tile({1, 20, 20, 96, 576, 136, 5, 1, true}, 227 << 10, 132).warps == 0);
  CHECK(bottleneck_tile({1, 20, 20, 1024, 576, 96, 5, 1, true}, 99 << 10, 132).warps == 0);
}

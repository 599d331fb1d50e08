#include "ops/forward/forward.h"

#include <algorithm>
#include <cstring>

#include "core/activation_math.h"
#include "core/dispatch.h"
#include "core/isa.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/max_pool2d/max_pool2d.h"

namespace leyolo {

namespace {

void in_this_thread(int64_t begin, int64_t end, int64_t, Body body, void* state) { body(begin, end, state); }

// `pixels` pixels of `channels` values with a pitch, from `offset`, must lie inside `size` values.
void check_extent(int64_t step, char const* what, int64_t offset, int64_t pitch, int64_t pixels, int64_t channels,
                  int64_t size) {
  constexpr int64_t kLimit = int64_t(1) << 40;  // keeps the products below from overflowing
  bool const sane = offset >= 0 && offset < kLimit && channels > 0 && channels <= pitch && pitch < (1 << 20) &&
                    pixels > 0 && pixels < (int64_t(1) << 31);
  check(sane && offset + (pixels - 1) * pitch + channels <= size, "forward: step ", step, ": ", what, " of ", pixels,
        " pixels, pitch ", pitch, ", ", channels, " channels at ", offset, " does not fit into ", size, " values");
}

void check_step(int64_t i, int64_t const* s, int64_t x_size, int64_t y_size, int64_t arena_size, View const* weights,
                int64_t weight_count) {
  check(s[kKind] >= 0 && s[kKind] <= 3, "forward: step ", i, ": unknown kind ", s[kKind]);
  check((s[kXSpace] == kArena || s[kXSpace] == kInput) && (s[kYSpace] == kArena || s[kYSpace] == kOutput),
        "forward: step ", i, ": unknown space");
  for (int f : {kHeight, kWidth, kOutHeight, kOutWidth, kInChannels, kOutChannels})
    check(s[f] > 0 && s[f] < (1 << 20), "forward: step ", i, ": sizes must be positive, got ", s[f]);
  check_extent(i, "input", s[kXOffset], s[kXPitch], s[kHeight] * s[kWidth], s[kInChannels],
               s[kXSpace] == kInput ? x_size : arena_size);
  check_extent(i, "output", s[kYOffset], s[kYPitch], s[kOutHeight] * s[kOutWidth], s[kOutChannels],
               s[kYSpace] == kOutput ? y_size : arena_size);
  activation_from(s[kActivation], "forward");
  Step const kind = Step(s[kKind]);
  if (s[kResidualOffset] >= 0) {
    check(kind == Step::conv2d, "forward: step ", i, ": only a convolution has a residual");
    check_extent(i, "residual", s[kResidualOffset], s[kResidualPitch], s[kOutHeight] * s[kOutWidth], s[kOutChannels],
                 arena_size);
    check(s[kYSpace] != kArena || s[kResidualOffset] != s[kYOffset], "forward: step ", i,
          ": the residual must not be overwritten by the output");  // tiles overlap: it would be added twice
  }
  if (kind == Step::upsample2x) {
    check(s[kOutHeight] == 2 * s[kHeight] && s[kOutWidth] == 2 * s[kWidth] && s[kInChannels] == s[kOutChannels],
          "forward: step ", i, ": an upsampling doubles height and width");
    return;
  }
  int64_t const k = s[kKernel], stride = s[kStride], p = s[kPadding];
  check(k > 0 && k < 64 && stride > 0 && stride < 64 && p >= 0 && p < k, "forward: step ", i, ": kernel ", k,
        ", stride ", stride, ", padding ", p);
  check(s[kHeight] + 2 * p >= k && s[kWidth] + 2 * p >= k &&
            s[kOutHeight] == conv_output_size(s[kHeight], k, stride, p) &&
            s[kOutWidth] == conv_output_size(s[kWidth], k, stride, p),
        "forward: step ", i, ": kernel ", k, ", stride ", stride, ", padding ", p, " do not lead from ", s[kHeight],
        " x ", s[kWidth], " to ", s[kOutHeight], " x ", s[kOutWidth]);
  check(kind == Step::conv2d || s[kInChannels] == s[kOutChannels], "forward: step ", i,
        ": channels must stay the same");
  if (kind == Step::max_pool) {
    check(stride == 1 && p == k / 2 && k % 2 == 1, "forward: step ", i, ": pools have stride 1 and keep the size");
    return;
  }
  int64_t const w = s[kWeight];
  check(w >= 0 && w < weight_count, "forward: step ", i, ": there is no weight ", w);
  int64_t const expected = kind == Step::conv2d ? conv2d_packed_size(s[kOutChannels], s[kInChannels], k)
                                                : depthwise_packed_size(s[kInChannels], k, k);
  check(weights[w].dtype == DType::f32 && weights[w].numel() == expected, "forward: step ", i, ": weight ", w,
        " must be float32 of ", expected, " packed values, got ", weights[w]);
}

// Nearest neighbour.
void upsample2x(int64_t const* s, float const* x, float* y, Context const& context) {
  int64_t const channels = s[kInChannels], width = s[kWidth];
  parallel_for(context, 0, s[kHeight], 1 + 65536 / (channels * width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t column = 0; column < width; ++column) {
        float const* const from = x + (row * width + column) * s[kXPitch];
        for (int64_t dy = 0; dy < 2; ++dy)
          for (int64_t dx = 0; dx < 2; ++dx)
            std::memcpy(y + ((2 * row + dy) * 2 * width + 2 * column + dx) * s[kYPitch], from, size_t(channels) * 4);
      }
  });
}

void run_step(int64_t const* s, float const* input, View const* weights, float* arena, float* output,
              Context const& context) {
  float const* const x = (s[kXSpace] == kInput ? input : arena) + s[kXOffset];
  float* const y = (s[kYSpace] == kOutput ? output : arena) + s[kYOffset];
  Activation const activation = Activation(s[kActivation]);
  int const in = int(s[kInChannels]), out = int(s[kOutChannels]), k = int(s[kKernel]), stride = int(s[kStride]),
            padding = int(s[kPadding]);
  switch (Step(s[kKind])) {
    case Step::conv2d: {
      float const* const packed = weights[s[kWeight]].as<float>();
      return conv2d_image(
          {x, packed, conv2d_packed_bias(packed, out, in, k),
           s[kResidualOffset] >= 0 ? arena + s[kResidualOffset] : nullptr, y, s[kHeight], s[kWidth], s[kOutHeight],
           s[kOutWidth], s[kXPitch], s[kYPitch], s[kResidualPitch], in, out, k, stride, padding, activation},
          context);
    }
    case Step::depthwise: {
      float const* const packed = weights[s[kWeight]].as<float>();
      int const padded = (in + lanes() - 1) / lanes() * lanes();
      return depthwise_image({x,
                              packed,
                              packed + int64_t(padded) * k * k,
                              y,
                              s[kHeight],
                              s[kWidth],
                              s[kOutHeight],
                              s[kOutWidth],
                              s[kXPitch],
                              s[kYPitch],
                              in,
                              padded,
                              k,
                              k,
                              stride,
                              stride,
                              padding,
                              padding,
                              1,
                              1,
                              activation},
                             context);
    }
    case Step::max_pool: return max_pool2d_image({x, y, s[kHeight], s[kWidth], s[kXPitch], s[kYPitch], in, k}, context);
    case Step::upsample2x: return upsample2x(s, x, y, context);
  }
}

}  // namespace

void forward(View x, View program, View const* weights, int64_t weight_count, View arena, int64_t arena_size, View y,
             Context const& context) {
  check(x.rank == 4 && x.dtype == DType::f32, "forward: x must be float32 [N, H, W, C], got ", x);
  check(x.device == Device::cpu, "forward: has no CUDA kernel, move the tensors to the CPU");
  check(program.rank == 2 && program.shape[1] == kStepFields && program.dtype == DType::i64 &&
            program.device == Device::cpu,
        "forward: program must be int64 [steps, ", int(kStepFields), "] on the CPU, got ", program);
  check(y.dtype == DType::f32 && y.rank > 1 && y.shape[0] == x.shape[0], "forward: y must be float32 [N, ...], got ",
        y);
  check(arena_size > 0 && arena.dtype == DType::f32 && arena.numel() >= arena_size, "forward: the arena must hold ",
        arena_size, " float32 values, got ", arena);
  check_one_device("forward", x, {arena, y});
  for (int64_t i = 0; i < weight_count; ++i) check_one_device("forward", x, {weights[i]});
  check(!overlap(x, y) && !overlap(arena, y) && !overlap(arena, x), "forward: x, arena and y must not share memory");
  int64_t const images = x.shape[0], steps = program.shape[0];
  if (images == 0) return;
  int64_t const x_size = x.numel() / images, y_size = y.numel() / images;
  int64_t const* const rows = program.as<int64_t>();
  for (int64_t i = 0; i < steps; ++i)
    check_step(i, rows + i * kStepFields, x_size, y_size, arena_size, weights, weight_count);

  auto const run = [&](int64_t image, float* memory, Context const& threads) {
    for (int64_t i = 0; i < steps; ++i)
      run_step(rows + i * kStepFields, x.as<float>() + image * x_size, weights, memory, y.as<float>() + image * y_size,
               threads);
  };
  // Images side by side need an arena each, and pay only where every worker has the same number of them.
  int64_t const workers = std::min(images, arena.numel() / arena_size);
  int64_t const together = workers > 1 ? images / workers * workers : 0;
  if (together > 0) {
    Context serial = context;
    serial.parallel = in_this_thread;
    parallel_for(context, 0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker)
        for (int64_t image = worker; image < together; image += workers)
          run(image, arena.as<float>() + worker * arena_size, serial);
    });
  }
  for (int64_t image = together; image < images; ++image) run(image, arena.as<float>(), context);
}

}  // namespace leyolo

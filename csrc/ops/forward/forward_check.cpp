#include "ops/forward/forward_check.h"

#include <algorithm>

#include "core/activation_math.h"
#include "core/stream.h"
#include "ops/conv2d/conv2d.h"
#include "ops/conv2d/conv2d_bf16.h"
#include "ops/conv2d/conv2d_cuda.h"
#include "ops/depthwise_conv2d/depthwise_bf16.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/depthwise_conv2d/depthwise_images.h"
#include "ops/forward/forward_steps.h"

namespace leyolo {

void check_extent(int64_t step, char const* what, int64_t offset, int64_t pitch, int64_t pixels, int64_t channels,
                  int64_t size) {
  constexpr int64_t kLimit = int64_t(1) << 40;  // keeps the products below from overflowing
  bool const sane = offset >= 0 && offset < kLimit && channels > 0 && channels <= pitch && pitch < (1 << 20) &&
                    pixels > 0 && pixels < (int64_t(1) << 31);
  check(sane && offset + (pixels - 1) * pitch + channels <= size, "forward: step ", step, ": ", what, " of ", pixels,
        " pixels, pitch ", pitch, ", ", channels, " channels at ", offset, " does not fit into ", size, " values");
}

namespace {

constexpr int64_t kMostInChain = 16;

void check_residual(int64_t i, int64_t const* s, int64_t arena_size) {
  if (s[kResidualOffset] < 0) return;
  check(Step(s[kKind]) == Step::conv2d, "forward: step ", i, ": only a convolution has a residual");
  check_extent(i, "residual", s[kResidualOffset], s[kResidualPitch], s[kOutHeight] * s[kOutWidth], s[kOutChannels],
               arena_size);
  check(s[kYSpace] != kArena || s[kResidualOffset] != s[kYOffset], "forward: step ", i,
        ": the residual must not be overwritten by the output");  // tiles overlap: it would be added twice
}

int64_t addend_channels(int64_t const* s) {
  return Step(s[kKind]) == Step::depthwise ? s[kOutChannels] - s[kInChannels] : s[kOutChannels];
}

void check_addend(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  if (s[kAddendOffset] < 0) return;
  bool const depthwise = Step(s[kKind]) == Step::depthwise;
  check(!sizes.cuda && (depthwise || sizes.values == DType::f32), "forward: step ", i,
        ": on CUDA nothing has an addend, in bfloat16 only a depthwise convolution");
  check((depthwise || (Step(s[kKind]) == Step::conv2d && s[kKernel] == 1)) && s[kStride] == 1, "forward: step ", i,
        ": only 1x1 and depthwise convolutions of stride 1 have an addend");
  int64_t const height = s[kOutHeight], width = s[kOutWidth];
  check(height == s[kHeight] && width == s[kWidth], "forward: step ", i,
        ": with an addend the output is as high and wide as the input");
  check(height % 2 == 0 && width % 2 == 0, "forward: step ", i,
        ": an addend is half as high and wide as the output, got ", height, " x ", width);
  check_extent(i, "addend", s[kAddendOffset], s[kAddendPitch], height * width / 4, addend_channels(s), sizes.arena);
}

void check_tf32(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  bool const can = sizes.cuda && sizes.values == DType::f32 && Step(s[kKind]) == Step::conv2d;
  check(s[kTf32] == 0 || (s[kTf32] == 1 && can), "forward: step ", i,
        ": TF32 (1) is for dense convolutions of float32 maps on CUDA, else 0, got ", s[kTf32]);
}

void check_weight(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  int64_t const w = s[kWeight], k = s[kKernel];
  check(w >= 0 && w < sizes.weight_count, "forward: step ", i, ": there is no weight ", w);
  bool const dense = Step(s[kKind]) == Step::conv2d, bf16 = sizes.values == DType::bf16 && !sizes.cuda;
  int64_t const in = s[kInChannels], out = s[kOutChannels];
  int64_t const low = dense || s[kAddendOffset] < 0 ? 0 : out - in;  // channels with packed weights in front
  int64_t const expected = sizes.cuda ? dense ? conv2d_cuda_packed_size(out, in, k, sizes.values)
                                              : depthwise_cuda_packed_size(in, k, sizes.values)
                           : bf16     ? dense ? conv2d_bf16_packed_size(out, in, k)
                                              : depthwise_bf16_packed_size(in, k) + depthwise_bf16_packed_size(low, k)
                           : dense    ? conv2d_packed_size(out, in, k)
                                      : depthwise_packed_size(in, k, k) + depthwise_packed_size(low, k, k);
  DType const dtype = bf16 ? DType::i32 : DType::f32;
  check(sizes.weights[w].dtype == dtype && sizes.weights[w].numel() == expected, "forward: step ", i, ": weight ", w,
        " must be ", dtype, " of ", expected, " packed values, got ", sizes.weights[w]);
}

// What the image becomes before the first layer.
void check_unit(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  check(!sizes.cuda, "forward: step ", i, ": on CUDA the first convolution reads the image itself");
  bool const bf16 = sizes.values == DType::bf16;
  check(bf16 ? s[kInChannels] == 3 && s[kOutChannels] == 4
             : sizes.input == DType::u8 && s[kInChannels] == s[kOutChannels],
        "forward: step ", i, ": unit makes ", bf16 ? "4 channels of 3" : "floats of as many bytes", ", got ",
        s[kInChannels], " -> ", s[kOutChannels], " channels of ", sizes.input);
  check(s[kXSpace] == kInput && s[kOutHeight] == s[kHeight] && s[kOutWidth] == s[kWidth] &&
            s[kXPitch] == s[kInChannels] && s[kYPitch] == s[kOutChannels],
        "forward: step ", i, ": unit reads a dense image and keeps its size");
}

}  // namespace

void check_shape(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  for (int f : {kHeight, kWidth, kOutHeight, kOutWidth, kInChannels, kOutChannels})
    check(s[f] > 0 && s[f] < (1 << 20), "forward: step ", i, ": sizes must be positive, got ", s[f]);
  for (int f : {kXPitch, kYPitch})
    check(s[f] > 0 && s[f] < (1 << 20), "forward: step ", i, ": pitches must be positive, got ", s[f]);
  activation_from(s[kActivation], "forward");
  Step const kind = Step(s[kKind]);
  check_residual(i, s, sizes.arena);
  check_addend(i, s, sizes);
  check_tf32(i, s, sizes);
  if (kind == Step::unit) return check_unit(i, s, sizes);
  bool const more = kind == Step::conv2d || (kind == Step::depthwise && s[kAddendOffset] >= 0);
  check(more || s[kInChannels] == s[kOutChannels], "forward: step ", i, ": channels must stay the same");
  if (kind == Step::upsample2x)
    return check(s[kOutHeight] == 2 * s[kHeight] && s[kOutWidth] == 2 * s[kWidth], "forward: step ", i,
                 ": an upsampling doubles height and width");
  int64_t const k = s[kKernel], stride = s[kStride], p = s[kPadding];
  check(k > 0 && k < 64 && stride > 0 && stride < 64 && p >= 0 && p < k, "forward: step ", i, ": kernel ", k,
        ", stride ", stride, ", padding ", p);
  check(s[kHeight] + 2 * p >= k && s[kWidth] + 2 * p >= k &&
            s[kOutHeight] == conv_output_size(s[kHeight], k, stride, p) &&
            s[kOutWidth] == conv_output_size(s[kWidth], k, stride, p),
        "forward: step ", i, ": kernel ", k, ", stride ", stride, ", padding ", p, " do not lead from ", s[kHeight],
        " x ", s[kWidth], " to ", s[kOutHeight], " x ", s[kOutWidth]);
  if (kind == Step::max_pool)
    return check(stride == 1 && p == k / 2 && k % 2 == 1, "forward: step ", i,
                 ": pools have stride 1 and keep the size");
  check_weight(i, s, sizes);
}

void check_input(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  check(s[kXSpace] == kArena || s[kXSpace] == kInput, "forward: step ", i, ": unknown space of the input");
  bool const direct = sizes.cuda || (sizes.input == DType::f32 && sizes.values == DType::f32);
  check(s[kXSpace] != kInput ||
            ((Step(s[kKind]) == Step::unit) != direct && (!sizes.cuda || Step(s[kKind]) == Step::conv2d)),
        "forward: step ", i, ": cannot read an image of ", sizes.input);
  check_extent(i, "input", s[kXOffset], s[kXPitch], s[kHeight] * s[kWidth], s[kInChannels],
               s[kXSpace] == kInput ? sizes.x : sizes.arena);
}

void check_output(int64_t i, int64_t const* s, ProgramSizes const& sizes) {
  check(s[kYSpace] == kArena || s[kYSpace] == kOutput, "forward: step ", i, ": unknown space of the output");
  bool const convolves = Step(s[kKind]) == Step::conv2d || Step(s[kKind]) == Step::depthwise;
  check(s[kYSpace] == kArena || convolves || sizes.values == DType::f32, "forward: step ", i,
        ": only convolutions of maps in half precision write float32");
  check_extent(i, "output", s[kYOffset], s[kYPitch], s[kOutHeight] * s[kOutWidth], s[kOutChannels],
               s[kYSpace] == kOutput ? sizes.y : sizes.arena);
}

namespace {

// Two ranges of the arena.
bool apart(int64_t a, int64_t a_size, int64_t b, int64_t b_size) { return a + a_size <= b || b + b_size <= a; }

// Returns the number of steps.
int64_t check_chain(int64_t first, int64_t steps, int64_t const* chain, ProgramSizes const& sizes) {
  int64_t const count = chain[kChainSteps], band = chain[kChainBand], pieces = chain[kChainPieces],
                size = chain[kChainWindowSize];
  check(count > 1 && count <= kMostInChain && first + count < steps, "forward: step ", first, ": a chain of ", count,
        " steps, expected 2 to ", kMostInChain, ", all in the program");
  check(band > 0 && band < (1 << 20) && pieces > 0 && pieces < (1 << 16) && size > 0, "forward: step ", first,
        ": a chain needs a band, pieces and windows, got ", band, ", ", pieces, ", ", size);
  check_extent(first, "windows", chain[kChainWindows], 1, pieces, 1, sizes.arena);
  check(size <= (sizes.arena - chain[kChainWindows]) / pieces, "forward: step ", first, ": windows of ", pieces, " x ",
        size, " values at ", chain[kChainWindows], " do not fit into ", sizes.arena, " values");
  auto const outside = [&](int64_t i, char const* what, int64_t offset, int64_t pitch, int64_t pixels,
                           int64_t channels) {
    check(apart(chain[kChainWindows], pieces * size, offset, (pixels - 1) * pitch + channels), "forward: step ", i,
          ": the ", what, " overlaps the chain's windows");
  };
  int64_t rows = band, used = 0;
  for (int64_t j = count; j >= 1; --j) {
    int64_t const i = first + j;
    int64_t const* const s = chain + j * kStepFields;
    Step const kind = Step(s[kKind]);
    check(kind == Step::conv2d || kind == Step::depthwise || kind == Step::unit, "forward: step ", i,
          ": a chain holds convolutions and unit, got kind ", s[kKind]);
    check_shape(i, s, sizes);
    if (s[kResidualOffset] >= 0)
      outside(i, "residual", s[kResidualOffset], s[kResidualPitch], s[kOutHeight] * s[kOutWidth], s[kOutChannels]);
    if (s[kAddendOffset] >= 0)
      outside(i, "addend", s[kAddendOffset], s[kAddendPitch], s[kOutHeight] * s[kOutWidth] / 4, addend_channels(s));
    if (j == count) {
      check_output(i, s, sizes);
      if (s[kYSpace] == kArena)
        outside(i, "output", s[kYOffset], s[kYPitch], s[kOutHeight] * s[kOutWidth], s[kOutChannels]);
    } else {
      int64_t const held = std::min(rows, s[kOutHeight]);
      check(s[kYSpace] == kWindow && s[kYPitch] == s[kOutChannels] && s[kWindowRows] >= held &&
                s[kWindowRows] < (1 << 20),
            "forward: step ", i, ": needs a dense window of at least ", held, " rows, got ", s[kWindowRows]);
      used += s[kWindowRows] * s[kOutWidth] * s[kOutChannels];
    }
    if (j == 1) {
      check_input(i, s, sizes);
      if (s[kXSpace] == kArena) outside(i, "input", s[kXOffset], s[kXPitch], s[kHeight] * s[kWidth], s[kInChannels]);
    } else {
      int64_t const* const before = s - kStepFields;
      check(s[kXSpace] == kWindow && s[kXPitch] == before[kYPitch] && s[kHeight] == before[kOutHeight] &&
                s[kWidth] == before[kOutWidth] && s[kInChannels] == before[kOutChannels],
            "forward: step ", i, ": must read what step ", i - 1, " writes");
    }
    if (kind != Step::unit) rows = stream_rows(rows, s[kKernel], s[kStride]);
  }
  check(used <= size, "forward: step ", first, ": the chain's windows need ", used, " values, got ", size);
  return count;
}

}  // namespace

void check_program(View program, Device device, DType input, DType values, int64_t x_size, int64_t y_size,
                   int64_t arena_size, View const* weights, int64_t weight_count) {
  ProgramSizes const sizes{device == Device::cuda, input, values, x_size, y_size, arena_size, weights, weight_count};
  int64_t const steps = program.shape[0];
  for (int64_t i = 0; i < steps; ++i) {
    int64_t const* const s = program.as<int64_t>() + i * kStepFields;
    check(s[kKind] >= 0 && s[kKind] <= 6, "forward: step ", i, ": unknown kind ", s[kKind]);
    if (Step(s[kKind]) == Step::block) {
      i += check_block(i, steps, s, sizes);
      continue;
    }
    if (Step(s[kKind]) == Step::chain) {
      check(!sizes.cuda, "forward: step ", i, ": chains are for the CPU");
      i += check_chain(i, steps, s, sizes);
      continue;
    }
    check_shape(i, s, sizes);
    check_input(i, s, sizes);
    check_output(i, s, sizes);
  }
}

}  // namespace leyolo

#include "ops/forward/forward_steps.h"

#include <cstring>
#include <vector>

#include "core/convert.h"
#include "core/isa.h"
#include "core/stream.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/max_pool2d/max_pool2d.h"

namespace leyolo {

namespace {

struct Bound {
  int64_t const* s;
  Memory const* memory;
};

Conv2dArgs conv2d_args(Bound b, float const* x, float* y) {
  int64_t const* s = b.s;
  int const in = int(s[kInChannels]), out = int(s[kOutChannels]), k = int(s[kKernel]);
  float const* const packed = b.memory->weights[s[kWeight]].as<float>();
  return {x,
          packed,
          conv2d_packed_bias(packed, out, in, k),
          s[kResidualOffset] >= 0 ? b.memory->arena + s[kResidualOffset] : nullptr,
          y,
          s[kHeight],
          s[kWidth],
          s[kOutHeight],
          s[kOutWidth],
          s[kXPitch],
          s[kYPitch],
          s[kResidualPitch],
          in,
          out,
          k,
          int(s[kStride]),
          int(s[kPadding]),
          Activation(s[kActivation])};
}

DepthwiseArgs depthwise_args(Bound b, float const* x, float* y) {
  int64_t const* s = b.s;
  int const channels = int(s[kInChannels]), padded = (channels + lanes() - 1) / lanes() * lanes(), k = int(s[kKernel]),
            stride = int(s[kStride]), padding = int(s[kPadding]);
  float const* const packed = b.memory->weights[s[kWeight]].as<float>();
  return {x,
          packed,
          packed + int64_t(padded) * k * k,
          y,
          s[kHeight],
          s[kWidth],
          s[kOutHeight],
          s[kOutWidth],
          s[kXPitch],
          s[kYPitch],
          channels,
          padded,
          k,
          k,
          stride,
          stride,
          padding,
          padding,
          1,
          1,
          Activation(s[kActivation])};
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

// Rows of an image of bytes, all of its channels.
void unit_band(int64_t const* s, char const* x, float* y, int64_t begin, int64_t end) {
  int64_t const row = s[kWidth] * s[kInChannels];
  unit_from_bytes(reinterpret_cast<uint8_t const*>(x) + begin * row, y + begin * row, (end - begin) * row);
}

char const* input_of(int64_t const* s, Memory const& m) {
  if (s[kXSpace] != kInput) return reinterpret_cast<char const*>(m.arena + s[kXOffset]);
  return m.input + s[kXOffset] * (Step(s[kKind]) == Step::unit ? 1 : 4);
}

float* output_of(int64_t const* s, Memory const& m) {
  return (s[kYSpace] == kOutput ? m.output : m.arena) + s[kYOffset];
}

void run_band(void const* layer, char const* x, char* y, int64_t begin, int64_t end) {
  Bound const b = *static_cast<Bound const*>(layer);
  float const* const from = reinterpret_cast<float const*>(x);
  float* const to = reinterpret_cast<float*>(y);
  switch (Step(b.s[kKind])) {
    case Step::conv2d: return conv2d_band(conv2d_args(b, from, to), begin, end);
    case Step::depthwise: return depthwise_band(depthwise_args(b, from, to), begin, end);
    default: return unit_band(b.s, x, to, begin, end);
  }
}

void run_chain(int64_t const* chain, Memory const& memory, Context const& context) {
  constexpr int kMost = 16;  // check_program
  int const count = int(chain[kChainSteps]);
  Bound bound[kMost];
  StreamLayer layers[kMost];
  for (int i = 0; i < count; ++i) {
    int64_t const* const s = chain + (i + 1) * kStepFields;
    bound[i] = {s, &memory};
    bool const unit = Step(s[kKind]) == Step::unit;
    layers[i] = {s[kOutHeight],      unit ? 1 : s[kKernel],   unit ? 1 : s[kStride], unit ? 0 : s[kPadding],
                 4 * s[kOutWidth] * s[kYPitch], s[kWindowRows], run_band,             &bound[i]};
  }
  stream(layers, count, input_of(bound[0].s, memory), reinterpret_cast<char*>(output_of(bound[count - 1].s, memory)),
         chain[kChainBand], chain[kChainPieces], reinterpret_cast<char*>(memory.arena + chain[kChainWindows]),
         4 * chain[kChainWindowSize], context);
}

}  // namespace

void run_step(int64_t const* s, Memory const& memory, Context const& context) {
  if (Step(s[kKind]) == Step::chain) return run_chain(s, memory, context);
  Bound const b{s, &memory};
  char const* const bytes = input_of(s, memory);
  float const* const x = reinterpret_cast<float const*>(bytes);
  float* const y = output_of(s, memory);
  switch (Step(s[kKind])) {
    case Step::conv2d: return conv2d_image(conv2d_args(b, x, y), context);
    case Step::depthwise: return depthwise_image(depthwise_args(b, x, y), context);
    case Step::max_pool:
      return max_pool2d_image({x, y, s[kHeight], s[kWidth], s[kXPitch], s[kYPitch], int(s[kInChannels]), int(s[kKernel])},
                              context);
    case Step::upsample2x: return upsample2x(s, x, y, context);
    default:
      return parallel_for(context, 0, s[kHeight], 32,
                          [&](int64_t begin, int64_t end) { unit_band(s, bytes, y, begin, end); });
  }
}

}  // namespace leyolo

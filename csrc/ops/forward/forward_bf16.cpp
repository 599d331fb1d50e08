#include "core/image_bf16.h"
#include "ops/conv2d/conv2d_bf16.h"
#include "ops/depthwise_conv2d/depthwise_bf16.h"
#include "ops/forward/forward_steps.h"
#include "ops/max_pool2d/max_pool2d.h"

namespace leyolo {

namespace {

uint16_t const* map(char const* x) { return reinterpret_cast<uint16_t const*>(x); }
uint16_t* map(char* y) { return reinterpret_cast<uint16_t*>(y); }

Conv2dBf16Args conv2d_args(int64_t const* s, Memory const& m, char const* x, char* y) {
  int const in = int(s[kInChannels]), out = int(s[kOutChannels]), k = int(s[kKernel]);
  unsigned const* const packed = m.weights[s[kWeight]].as<unsigned>();
  return {map(x),
          packed,
          conv2d_bf16_packed_bias(packed, out, in, k),
          s[kResidualOffset] >= 0 ? map(m.arena) + s[kResidualOffset] : nullptr,
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
          Activation(s[kActivation]),
          s[kYSpace] == kOutput};
}

DepthwiseBf16Args depthwise_args(int64_t const* s, Memory const& m, char const* x, char* y) {
  int const channels = int(s[kInChannels]), k = int(s[kKernel]);
  unsigned const* packed = m.weights[s[kWeight]].as<unsigned>();
  DepthwiseBf16Low low{};
  if (s[kAddendOffset] >= 0) {
    int const count = int(s[kOutChannels]) - channels;
    low = {map(m.arena) + s[kAddendOffset], packed, depthwise_bf16_packed_bias(packed, count, k), s[kAddendPitch],
           count};
    packed += depthwise_bf16_packed_size(count, k);
  }
  return {map(x),
          packed,
          depthwise_bf16_packed_bias(packed, channels, k),
          y,
          s[kHeight],
          s[kWidth],
          s[kOutHeight],
          s[kOutWidth],
          s[kXPitch],
          s[kYPitch],
          channels,
          k,
          int(s[kStride]),
          int(s[kPadding]),
          Activation(s[kActivation]),
          s[kYSpace] == kOutput,
          low};
}

void unit(int64_t const* s, Memory const& m, char const* x, char* y, int64_t begin, int64_t end) {
  int64_t const width = s[kWidth];
  image_bf16({x + begin * width * 3 * size_of(m.input_type), map(y) + begin * width * 4, (end - begin) * width},
             m.input_type);
}

void band(int64_t const* s, Memory const& m, char const* x, char* y, int64_t begin, int64_t end) {
  if (Step(s[kKind]) == Step::conv2d)
    conv2d_bf16_band(conv2d_args(s, m, x, y), begin, end);
  else
    depthwise_bf16_band(depthwise_args(s, m, x, y), begin, end);
}

void image(int64_t const* s, Memory const& m, char const* x, char* y, Context const& context) {
  switch (Step(s[kKind])) {
    case Step::conv2d: return conv2d_bf16_image(conv2d_args(s, m, x, y), context);
    case Step::depthwise: return depthwise_bf16_image(depthwise_args(s, m, x, y), context);
    default:
      return max_pool2d_bf16_image(
          {map(x), map(y), s[kHeight], s[kWidth], s[kXPitch], s[kYPitch], int(s[kInChannels]), int(s[kKernel])},
          context);
  }
}

}  // namespace

StepKernels const bf16_steps = {unit, band, image};

}  // namespace leyolo

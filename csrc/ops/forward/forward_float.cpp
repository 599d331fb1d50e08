#include "core/convert.h"
#include "ops/conv2d/conv2d.h"
#include "ops/depthwise_conv2d/depthwise_conv2d.h"
#include "ops/forward/forward_steps.h"
#include "ops/max_pool2d/max_pool2d.h"

namespace leyolo {

namespace {

Conv2dArgs conv2d_args(int64_t const* s, Memory const& m, float const* x, float* y) {
  int const in = int(s[kInChannels]), out = int(s[kOutChannels]), k = int(s[kKernel]);
  float const* const packed = m.weights[s[kWeight]].as<float>();
  return {x,
          packed,
          conv2d_packed_bias(packed, out, in, k),
          s[kResidualOffset] >= 0 ? reinterpret_cast<float const*>(m.arena) + s[kResidualOffset] : nullptr,
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
          s[kAddendOffset] >= 0 ? reinterpret_cast<float const*>(m.arena) + s[kAddendOffset] : nullptr,
          s[kAddendPitch]};
}

DepthwiseArgs depthwise_args(int64_t const* s, Memory const& m, float const* x, float* y) {
  int const channels = int(s[kInChannels]), k = int(s[kKernel]), stride = int(s[kStride]), padding = int(s[kPadding]);
  float const* packed = m.weights[s[kWeight]].as<float>();
  DepthwiseLow low{};
  if (s[kAddendOffset] >= 0) {
    int const count = int(s[kOutChannels]) - channels;
    low = {reinterpret_cast<float const*>(m.arena) + s[kAddendOffset], packed, packed + depthwise_padded(count) * k * k,
           s[kAddendPitch], count};
    packed += depthwise_packed_size(count, k, k);
  }
  return {x,
          packed,
          packed + depthwise_padded(channels) * k * k,
          y,
          s[kHeight],
          s[kWidth],
          s[kOutHeight],
          s[kOutWidth],
          s[kXPitch],
          s[kYPitch],
          channels,
          int(depthwise_padded(channels)),
          k,
          k,
          stride,
          stride,
          padding,
          padding,
          1,
          1,
          Activation(s[kActivation]),
          low};
}

void unit(int64_t const* s, Memory const&, char const* x, char* y, int64_t begin, int64_t end) {
  int64_t const row = s[kWidth] * s[kInChannels];
  unit_from_bytes(reinterpret_cast<uint8_t const*>(x) + begin * row, reinterpret_cast<float*>(y) + begin * row,
                  (end - begin) * row);
}

void band(int64_t const* s, Memory const& m, char const* x, char* y, int64_t begin, int64_t end) {
  auto const* const from = reinterpret_cast<float const*>(x);
  auto* const to = reinterpret_cast<float*>(y);
  if (Step(s[kKind]) == Step::conv2d)
    conv2d_band(conv2d_args(s, m, from, to), begin, end);
  else
    depthwise_band(depthwise_args(s, m, from, to), begin, end);
}

void image(int64_t const* s, Memory const& m, char const* x, char* y, Context const& context) {
  auto* const from = reinterpret_cast<float const*>(x);
  auto* const to = reinterpret_cast<float*>(y);
  switch (Step(s[kKind])) {
    case Step::conv2d: return conv2d_image(conv2d_args(s, m, from, to), context);
    case Step::depthwise: return depthwise_image(depthwise_args(s, m, from, to), context);
    default:
      return max_pool2d_image(
          {from, to, s[kHeight], s[kWidth], s[kXPitch], s[kYPitch], int(s[kInChannels]), int(s[kKernel])}, context);
  }
}

}  // namespace

StepKernels const float_steps = {unit, band, image};

}  // namespace leyolo

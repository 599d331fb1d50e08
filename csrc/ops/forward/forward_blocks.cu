// Steps that are one kernel together.
#include "core/cuda.cuh"
#include "ops/forward/forward_cuda.h"
#include "ops/forward/forward_head.h"
#include "ops/forward/forward_steps.h"
#include "ops/inverted_bottleneck/inverted_bottleneck_cuda.h"
#include "ops/max_pool2d/max_pool2d_cuda.h"

namespace leyolo {

namespace {

void bottleneck(int64_t const* first, int64_t count, Batch const& b, Context const& context) {
  int64_t const *const last = first + (count - 1) * kStepFields, *const depthwise = last - kStepFields;
  int64_t const* const low = Step(first[kKind]) == Step::upsample2x ? first : nullptr;
  if (low) first += kStepFields;
  int64_t const* const stem = first[kXSpace] == kInput ? first : nullptr;
  int64_t const* const body = stem ? first + kStepFields : first;  // what reads x
  Place const x = input_of(first, b), y = output_of(last, b);
  BottleneckImages a{x.data,
                     body == depthwise ? nullptr : b.weights[body[kWeight]].data,
                     b.weights[depthwise[kWeight]].data,
                     b.weights[last[kWeight]].data,
                     residual_of(last, b),
                     y.data,
                     b.images,
                     x.image,
                     y.image,
                     b.arena_size,
                     int(body[kHeight]),
                     int(body[kWidth]),
                     int(last[kOutHeight]),
                     int(last[kOutWidth]),
                     int(body[kXPitch]),
                     int(last[kYPitch]),
                     int(last[kResidualPitch]),
                     int(body[kInChannels]),
                     int(depthwise[kInChannels]),
                     int(last[kOutChannels]),
                     int(depthwise[kKernel]),
                     int(depthwise[kStride]),
                     int(depthwise[kPadding]),
                     Activation(depthwise[kActivation])};
  if (low) {
    Place const from = input_of(low, b);
    a.low = from.data, a.low_image = from.image;
    a.low_pitch = int(low[kXPitch]), a.low_channels = int(low[kInChannels]);
  }
  if (stem)
    a.stem = {b.weights[stem[kWeight]].data,
              x.type,
              int(stem[kHeight]),
              int(stem[kWidth]),
              int(stem[kInChannels]),
              int(stem[kKernel]),
              int(stem[kStride]),
              int(stem[kPadding])};
  bottleneck_images_cuda(a, b.values, context);
}

void head(int64_t const* first, int64_t count, Batch const& b, Context const& context) {
  HeadBranch branches[kMostHeadBranches];
  int found = 0;
  for (int64_t const* s = first; s < first + count * kStepFields; s += kHeadSteps * kStepFields)
    for (int branch = 0; branch < 2; ++branch) {
      int64_t const *const one = s + kStepFields, *const two = one + kStepFields,
                           *const last = two + (1 + branch) * kStepFields;
      Place const x = input_of(s, b), y = output_of(last, b);
      branches[found++] = {x.data,
                           b.weights[s[kWeight]].data,
                           b.weights[one[kWeight]].data,
                           b.weights[two[kWeight]].data,
                           b.weights[last[kWeight]].data,
                           reinterpret_cast<float*>(y.data),
                           x.image,
                           y.image,
                           int(s[kHeight]),
                           int(s[kWidth]),
                           int(s[kXPitch]),
                           int(last[kYPitch]),
                           int(s[kInChannels]),
                           int(last[kInChannels]),
                           int(last[kOutChannels]),
                           int(last[kXOffset] - two[kYOffset]),
                           int(s[kOutChannels]),
                           Activation(s[kActivation])};
    }
  head_images_cuda(branches, found, b.images, b.values, context);
}

void pools(int64_t const* first, Batch const& b, Context const& context) {
  Place const x = input_of(first, b), y = output_of(first, b);
  max_pool_chain_cuda({x.data, y.data, (first + kStepFields)[kYOffset] - first[kYOffset], b.images, x.image,
                       int(first[kHeight]), int(first[kWidth]), int(first[kXPitch]), int(first[kInChannels])},
                      b.values, context);
}

}  // namespace

int64_t block_step(int64_t const* block, Batch const& b, Context const& context) {
  int64_t const count = block[kChainSteps];
  int64_t const* const first = block + kStepFields;
  switch (block_kind(block)) {
    case Block::pools: pools(first, b, context); break;
    case Block::head: head(first, count, b, context); break;
    default: bottleneck(first, count, b, context); break;
  }
  return count;
}

}  // namespace leyolo

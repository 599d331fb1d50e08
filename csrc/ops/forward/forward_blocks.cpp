#include "core/check.h"
#include "ops/forward/forward_check.h"
#include "ops/forward/forward_steps.h"

namespace leyolo {

namespace {

// A step of a block and where it stands in the program.
struct Row {
  int64_t i;
  int64_t const* s;

  Row next() const { return {i + 1, s + kStepFields}; }
  Step kind() const { return Step(s[kKind]); }
  bool pointwise() const { return kind() == Step::conv2d && s[kKernel] == 1 && s[kStride] == 1; }
};

// All channels, or only some of them.
void check_follows(Row const& step, Row const& before, bool all = true) {
  int64_t const *const s = step.s, *const b = before.s;
  check(s[kXSpace] == kWindow && b[kYSpace] == kWindow && s[kHeight] == b[kOutHeight] && s[kWidth] == b[kOutWidth] &&
            s[kXPitch] == b[kYPitch] && s[kXOffset] >= b[kYOffset] &&
            s[kXOffset] + s[kInChannels] <= b[kYOffset] + b[kOutChannels] &&
            (!all || s[kInChannels] == b[kOutChannels]),
        "forward: step ", step.i, ": must read what step ", before.i, " writes");
}

void check_inner(Row const& step, int64_t activation) {
  check(step.s[kResidualOffset] < 0 && step.s[kActivation] == activation, "forward: step ", step.i,
        ": the residual of a block comes last, and its last step has no activation");
}

// Its map is read where it lies, and its output is in no memory: it has the first channels of what comes next.
void check_upsampling(Row const& step, Row const& next, int64_t const* last, ProgramSizes const& sizes) {
  int64_t const *const s = step.s, *const n = next.s;
  check_shape(step.i, s, sizes);
  check_input(step.i, s, sizes);
  check(s[kXSpace] == kArena && s[kYSpace] == kArena && n[kXSpace] == kArena && s[kYOffset] == n[kXOffset] &&
            s[kYPitch] == n[kXPitch] && s[kOutHeight] == n[kHeight] && s[kOutWidth] == n[kWidth] &&
            s[kOutChannels] <= n[kInChannels] && last[kResidualOffset] < 0,
        "forward: step ", step.i, ": an upsampling in a block makes the first channels that step ", next.i,
        " reads, and there is no residual");
}

void check_stem(Row const& step, ProgramSizes const& sizes) {
  check(step.kind() == Step::conv2d && step.s[kXPitch] == step.s[kInChannels], "forward: step ", step.i,
        ": a block reads the arena, or begins with a convolution of the image");
  check_shape(step.i, step.s, sizes);
  check_input(step.i, step.s, sizes);
}

// [upsampling, or convolution of the image,] [1x1 convolution,] depthwise, 1x1 convolution.
void check_bottleneck(Row step, int64_t count, ProgramSizes const& sizes) {
  int64_t const* const last = step.s + (count - 1) * kStepFields;
  int64_t const activation = (last - kStepFields)[kActivation];
  if (step.kind() == Step::upsample2x) {
    check_upsampling(step, step.next(), last, sizes);
    step = step.next(), --count;
  }
  Row before{-1, nullptr};
  if (step.s[kXSpace] == kInput) {
    check_stem(step, sizes);
    check_inner(step, activation);
    before = step, step = step.next(), --count;
  }
  check(count == 3 || (count == 2 && !before.s), "forward: step ", step.i, ": a block of ", count,
        " steps from there, expected 3, or 2 that do not follow a convolution of the image");
  for (int64_t j = 1; j <= count; ++j, before = step, step = step.next()) {
    bool const depthwise = j == count - 1;
    check(depthwise ? step.kind() == Step::depthwise : step.pointwise(), "forward: step ", step.i,
          ": a block is [1x1 convolution,] depthwise, 1x1 convolution, got kind ", step.s[kKind], ", kernel ",
          step.s[kKernel], ", stride ", step.s[kStride]);
    check_shape(step.i, step.s, sizes);
    if (j < count) check_inner(step, activation);
    if (before.s)
      check_follows(step, before);
    else
      check(step.s[kXSpace] == kArena, "forward: step ", step.i, ": a block reads the arena"),
          check_input(step.i, step.s, sizes);
  }
  check(last[kActivation] == 0 && last[kYSpace] == kArena, "forward: step ", before.i,
        ": a block writes to the arena, without an activation");
  check_output(before.i, last, sizes);
}

// For every level a 1x1 convolution, two depthwise ones of kernel 3, and two 1x1 convolutions into the result.
void check_head(Row step, int64_t count, ProgramSizes const& sizes) {
  for (int64_t j = 0; j < count; j += kHeadSteps) {
    Row const first = step;
    for (int k = 0; k < kHeadSteps; ++k, step = step.next()) {
      int64_t const* const s = step.s;
      bool const depthwise = k == 1 || k == 2, last = k > 2;
      check(depthwise ? step.kind() == Step::depthwise && s[kKernel] == 3 && s[kStride] == 1 && s[kPadding] == 1
                      : step.pointwise(),
            "forward: step ", step.i, ": step ", k, " of a level of the head got kind ", s[kKind], ", kernel ",
            s[kKernel], ", stride ", s[kStride]);
      check_shape(step.i, s, sizes);
      check_inner(step, last ? 0 : first.s[kActivation]);
      if (k == 0)
        check(s[kXSpace] == kArena, "forward: step ", step.i, ": the head reads the arena"),
            check_input(step.i, s, sizes);
      else
        check_follows(step, {first.i + (last ? 2 : k - 1), first.s + (last ? 2 : k - 1) * kStepFields}, !last);
      if (!last) continue;
      check(s[kYSpace] == kOutput, "forward: step ", step.i, ": the head writes the result");
      check_output(step.i, s, sizes);
    }
  }
}

// Three pools of kernel 5, each of the one before it, the same distance apart.
void check_pools(Row step, ProgramSizes const& sizes) {
  int64_t const *const first = step.s, *before = nullptr;
  for (int j = 0; j < 3; ++j, before = step.s, step = step.next()) {
    int64_t const* const s = step.s;
    check(step.kind() == Step::max_pool && s[kKernel] == 5 && s[kXSpace] == kArena && s[kYSpace] == kArena &&
              s[kXPitch] == first[kYPitch] && s[kYPitch] == first[kYPitch] && s[kInChannels] == first[kInChannels] &&
              s[kHeight] == first[kHeight] && s[kWidth] == first[kWidth] &&
              (!before || (s[kXOffset] == before[kYOffset] &&
                           s[kYOffset] - before[kYOffset] == (first + kStepFields)[kYOffset] - first[kYOffset])),
          "forward: step ", step.i, ": a block of pools is three of kernel 5, each of the one before it");
    check_shape(step.i, s, sizes);
    check_input(step.i, s, sizes);
    check_output(step.i, s, sizes);
  }
}

}  // namespace

Block block_kind(int64_t const* block) {
  auto const kind = [&](int64_t j) { return Step(block[j * kStepFields + kKind]); };
  int64_t const count = block[kChainSteps];
  if (count == 3 && kind(1) == Step::max_pool) return Block::pools;
  if (count % kHeadSteps == 0 && kind(2) == Step::depthwise && kind(3) == Step::depthwise) return Block::head;
  return Block::bottleneck;
}

// Whether the kernel takes these sizes is its own affair.
int64_t check_block(int64_t first, int64_t steps, int64_t const* block, ProgramSizes const& sizes) {
  int64_t const count = block[kChainSteps];
  check(count > 1 && count <= 4 * kHeadSteps && first + count < steps, "forward: step ", first, ": a block of ", count,
        " steps, expected 2 to ", 4 * kHeadSteps, ", all in the program");
  Row const begin{first + 1, block + kStepFields};
  Block const kind = block_kind(block);
  check(sizes.cuda && (kind == Block::pools || sizes.values != DType::f32), "forward: step ", first,
        ": blocks are for CUDA, and but for pools for maps in float16 or bfloat16, got ", sizes.values);
  switch (kind) {
    case Block::pools: check_pools(begin, sizes); break;
    case Block::head: check_head(begin, count, sizes); break;
    default:
      check(count <= 4, "forward: step ", first, ": a block of ", count, " steps, expected 2 to 4");
      check_bottleneck(begin, count, sizes);
  }
  return count;
}

}  // namespace leyolo

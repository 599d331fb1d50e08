#include "ops/forward/forward_steps.h"

#include <cstring>

#include "core/stream.h"

namespace leyolo {

namespace {

struct Bound {
  int64_t const* s;
  Memory const* memory;
};

StepKernels const& kernels_of(Memory const& m) { return m.values == DType::bf16 ? bf16_steps : float_steps; }

// Nearest neighbour.
void upsample2x(int64_t const* s, int64_t value_size, char const* x, char* y, Context const& context) {
  int64_t const channels = s[kInChannels], width = s[kWidth], x_pitch = s[kXPitch] * value_size,
                y_pitch = s[kYPitch] * value_size;
  parallel_for(context, 0, s[kHeight], 1 + 65536 / (channels * width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t column = 0; column < width; ++column) {
        char const* const from = x + (row * width + column) * x_pitch;
        for (int64_t dy = 0; dy < 2; ++dy)
          for (int64_t dx = 0; dx < 2; ++dx)
            std::memcpy(y + ((2 * row + dy) * 2 * width + 2 * column + dx) * y_pitch, from,
                        size_t(channels * value_size));
      }
  });
}

char const* input_of(int64_t const* s, Memory const& m) {
  if (s[kXSpace] == kInput) return m.input + s[kXOffset] * size_of(m.input_type);
  return m.arena + s[kXOffset] * size_of(m.values);
}

char* output_of(int64_t const* s, Memory const& m) {
  if (s[kYSpace] == kOutput) return reinterpret_cast<char*>(m.output + s[kYOffset]);
  return m.arena + s[kYOffset] * size_of(m.values);
}

void run_band(void const* layer, char const* x, char* y, int64_t begin, int64_t end) {
  auto const [s, memory] = *static_cast<Bound const*>(layer);
  StepKernels const& kernels = kernels_of(*memory);
  (Step(s[kKind]) == Step::unit ? kernels.unit : kernels.band)(s, *memory, x, y, begin, end);
}

void run_chain(int64_t const* chain, Memory const& memory, Context const& context) {
  constexpr int kMost = 16;  // check_program
  int const count = int(chain[kChainSteps]);
  int64_t const value_size = size_of(memory.values);
  Bound bound[kMost];
  StreamLayer layers[kMost];
  for (int i = 0; i < count; ++i) {
    int64_t const* const s = chain + (i + 1) * kStepFields;
    bound[i] = {s, &memory};
    bool const unit = Step(s[kKind]) == Step::unit;
    layers[i] = {s[kOutHeight],
                 unit ? 1 : s[kKernel],
                 unit ? 1 : s[kStride],
                 unit ? 0 : s[kPadding],
                 value_size * s[kOutWidth] * s[kYPitch],
                 s[kWindowRows],
                 run_band,
                 &bound[i]};
  }
  stream(layers, count, input_of(bound[0].s, memory), output_of(bound[count - 1].s, memory), chain[kChainBand],
         chain[kChainPieces], memory.arena + value_size * chain[kChainWindows], value_size * chain[kChainWindowSize],
         context);
}

}  // namespace

void run_step(int64_t const* s, Memory const& memory, Context const& context) {
  if (Step(s[kKind]) == Step::chain) return run_chain(s, memory, context);
  char const* const x = input_of(s, memory);
  char* const y = output_of(s, memory);
  switch (Step(s[kKind])) {
    case Step::upsample2x: return upsample2x(s, size_of(memory.values), x, y, context);
    case Step::unit:
      return parallel_for(context, 0, s[kHeight], 32,
                          [&](int64_t begin, int64_t end) { kernels_of(memory).unit(s, memory, x, y, begin, end); });
    default: return kernels_of(memory).image(s, memory, x, y, context);
  }
}

}  // namespace leyolo

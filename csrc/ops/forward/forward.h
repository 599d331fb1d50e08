// A whole network in one call: a list of fused steps over one arena. Nothing is copied for a concatenation: its
// producers write into slices of one buffer (a pixel pitch larger than their channels). A 1x1 convolution of an
// upsampled map runs at the low resolution and is added into the one over the other channels; a depthwise one reads the
// low map by index. Wide maps never exist as
// a whole: a chain of steps runs row by row (core/stream.h), a block of them as one CUDA kernel. On the CPU the images
// of a batch go one after another, or one per thread; on CUDA a step runs for all of them.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

// One step per row of the program, int64. Offsets count values; `x` lies in the input image when x_space is
// kInput, else in the arena; `y` in the output image when y_space is kOutput. Weights are packed (conv2d_pack,
// depthwise_pack; on CUDA in the order of conv2d_cuda.h and depthwise_images.h), one array per layer.
enum StepField : int {
  kKind,  // Step
  kXSpace,
  kXOffset,
  kXPitch,
  kHeight,
  kWidth,
  kInChannels,
  kYSpace,
  kYOffset,
  kYPitch,
  kOutHeight,
  kOutWidth,
  kOutChannels,
  kKernel,
  kStride,
  kPadding,
  kActivation,
  kResidualOffset,  // in the arena; -1: none
  kResidualPitch,
  kWeight,        // index into the weights; -1: none
  kWindowRows,    // rows of y that are kept, when y_space is kWindow
  kAddendOffset,  // in the arena; -1: none. A map half as high and wide as the output, read at twice its size. Of a
                  // convolution: added to the sums (Conv2dArgs). Of a depthwise one: the input's first channels, as
                  // many as y has more than x (DepthwiseLow), with packed weights of their own in front of those of x
  kAddendPitch,
  kTf32,  // 1: of a dense convolution of float32 maps on CUDA, products in TF32 (weights rounded to it); else 0
  kStepFields
};

// The row in front of a chain: the next `kChainSteps` steps run row by row, each reading what the one before it wrote.
// All but the last write to windows, which lie in the arena: `kChainWindowSize` values for each of `kChainPieces`
// threads.
enum ChainField : int { kChainSteps = 1, kChainBand, kChainPieces, kChainWindows, kChainWindowSize };

// The row in front of a block (CUDA only): the next `kChainSteps` steps run as one kernel; what lies between them is in
// no memory (kWindow, and what an upsampling writes). They are
//   a bottleneck: [an upsampling, or a convolution of the image,] [1x1 convolution,] depthwise, 1x1 convolution;
//   the head, for each of its levels: 1x1 convolution, two depthwise ones, and two 1x1 convolutions of parts of that;
//   or three max pools, each of the one before it.

// unit (CPU only): the input image to what the first layer reads. Float32 arena: bytes 0..255 to 0..1; floats are read
// by the first layer itself. Bfloat16 arena: bytes, or floats 0..1, to 0..255 with a fourth channel of zeros
// (core/image_bf16.h).
enum class Step : int64_t { conv2d = 0, depthwise = 1, max_pool = 2, upsample2x = 3, chain = 4, unit = 5, block = 6 };
enum Space : int64_t { kArena = 0, kInput = 1, kOutput = 2, kWindow = 3 };

// Maps are stored in the type of the arena; results are float32. On the CPU bfloat16 is for where has_bf16_dot(), with
// weights from conv2d_bf16_pack and depthwise_bf16_pack; float16 is for CUDA. There convolutions read the image in any
// of its types. Checks every step against the sizes before the first one runs: a wrong
// program is an error, never a wild write.
void forward(View x /*[N, H, W, C] f32, u8; CUDA: or as the arena*/, View program /*[steps, kStepFields] i64, CPU*/,
             View const* weights, int64_t weight_count,
             View arena /*f32, bf16, f16: arena_size values, times `workers` for images side by side*/,
             int64_t arena_size, View y /*[N, ...] f32*/, View times /*[steps] f64 or absent: adds seconds*/,
             Context const& context);

}  // namespace leyolo

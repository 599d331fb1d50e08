// Letterbox: an image of any size, scaled as a whole into the network input, padded, and divided by 255;
// as uint8 not divided, for a network that does so itself and reads a quarter of the memory.
#pragma once

#include "core/context.h"
#include "core/view.h"

namespace leyolo {

struct Letterbox {
  int64_t height, width;                  // of the network input
  int64_t resized_height, resized_width;  // of the image inside it
  double scale;                           // input pixels per image pixel
  int64_t left, top;                      // padding before the image; what remains is behind it
};

// As leyolo.geometry.letterbox: scale = min(size / image), not above 1 without scale_up; resized sides rounded half to
// even, at least 1; rect: each side padded to the next multiple of stride, else to size; left = round(d / 2 - 0.1).
Letterbox letterbox_geometry(int64_t height, int64_t width, int64_t size_height, int64_t size_width, int64_t stride,
                             bool rect, bool scale_up);

// out[b, y, x, c] = pixel for uint8, else pixel / 255 in float32, then rounded to the type of out. A pixel is `value`
// in the padding, else that of image[b] resized as OpenCV's cv::resize(INTER_LINEAR) does it for 8 bits, to the bit:
// the image itself at the same size, 2 x 2 averages at exactly half the size, else bilinear with half-pixel centres and
// 11-bit weights. swap_rb exchanges channels 0 and 2.
void letterbox(View image /*[B, H, W, 3] u8*/, View out /*[B, h, w, 3] f32, f16, bf16, u8*/,
               View workspace /*bytes: letterbox_workspace*/, Letterbox const& geometry, int64_t value, bool swap_rb,
               Context const& context);

int64_t letterbox_workspace(View out, Letterbox const& geometry);

void letterbox_cpu(View image, View out, View workspace, Letterbox const& geometry, int64_t value, bool swap_rb,
                   Context const& context);
void letterbox_cuda(View image, View out, Letterbox const& geometry, int64_t value, bool swap_rb,
                    Context const& context);

}  // namespace leyolo

// Gradients of the depthwise convolution.
#include "ops/depthwise_conv2d/depthwise_conv2d_tap.h"

namespace leyolo::LEYOLO_ISA {

// pre = gradient * activation'(z), where z is the forward result without activation, already in `pre`; for count
// values.
extern void depthwise_pre_gradient(float const* gradient, float* pre, Activation activation, long long count) {
  for (long long i = 0; i < count; i += kLanes) {
    int const n = count - i < kLanes ? static_cast<int>(count - i) : kLanes;
    vf const z = load_part(pre + i, n);
    store_part(pre + i, load_part(gradient + i, n) * activation_gradient(activation, z), n);
  }
}

// Gradient of x for input rows [begin, end): every input pixel gathers the outputs that it fed.
extern void depthwise_x_gradient(DepthwiseBackwardArgs const& b, long long begin, long long end) {
  DepthwiseArgs const& a = b.forward;
  for (long long row = begin; row < end; ++row)
    for (long long column = 0; column < a.width; ++column)
      for (int channel = 0; channel < a.channels; channel += kLanes) {
        int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
        vf acc{};
        for (int ky = 0; ky < a.kernel_h; ++ky) {
          long long const y = row + a.padding_h - ky * a.dilation_h;
          if (y < 0 || y % a.stride_h || y / a.stride_h >= a.out_height) continue;
          for (int kx = 0; kx < a.kernel_w; ++kx) {
            long long const x = column + a.padding_w - kx * a.dilation_w;
            if (x < 0 || x % a.stride_w || x / a.stride_w >= a.out_width) continue;
            long long const pixel = y / a.stride_h * a.out_width + x / a.stride_w;
            acc += load_part(b.pre + pixel * a.channels + channel, n) * load(tap(a, a.weight, channel, ky, kx));
          }
        }
        store_part(b.x_gradient + (row * a.width + column) * a.channels + channel, acc, n);
      }
}

// Gradients of weight and bias for the vectors [begin, end) of channels, added to what is there: one fixed order,
// whatever the number of threads.
extern void depthwise_weight_gradient(DepthwiseBackwardArgs const& b, long long begin, long long end) {
  DepthwiseArgs const& a = b.forward;
  for (long long block = begin; block < end; ++block) {
    int const channel = static_cast<int>(block) * kLanes;
    int const n = a.channels - channel < kLanes ? a.channels - channel : kLanes;
    vf bias = load(b.bias_gradient + channel);
    for (long long p = 0; p < a.out_height * a.out_width; ++p) bias += load_part(b.pre + p * a.channels + channel, n);
    store(b.bias_gradient + channel, bias);
    for (int ky = 0; ky < a.kernel_h; ++ky)
      for (int kx = 0; kx < a.kernel_w; ++kx) {
        vf acc{};
        for (long long row = 0; row < a.out_height; ++row) {
          long long const y = row * a.stride_h - a.padding_h + ky * a.dilation_h;
          if (y < 0 || y >= a.height) continue;
          // Sums of one row first: shorter chains of roundings.
          vf part{};
          for (long long column = 0; column < a.out_width; ++column) {
            long long const x = column * a.stride_w - a.padding_w + kx * a.dilation_w;
            if (x < 0 || x >= a.width) continue;
            part += load_part(a.x + (y * a.width + x) * a.x_pitch + channel, n) *
                    load_part(b.pre + (row * a.out_width + column) * a.channels + channel, n);
          }
          acc += part;
        }
        float* w = tap(a, b.weight_gradient, channel, ky, kx);
        store(w, load(w) + acc);
      }
  }
}

}  // namespace leyolo::LEYOLO_ISA

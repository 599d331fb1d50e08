#include "ops/inverted_bottleneck_norm/norm_layer.h"

#include <algorithm>
#include <cmath>

#include "core/isa.h"
#include "ops/batch_norm_act/norm_stretch.h"

namespace leyolo {

LEYOLO_SIMD(void norm_sum(NormArgs const&))
LEYOLO_SIMD(void norm_squares(NormArgs const&))
LEYOLO_SIMD(void norm_apply(NormArgs const&))
LEYOLO_SIMD(void norm_gradient_sums(NormArgs const&))
LEYOLO_SIMD(void norm_x_gradient(NormArgs const&))
LEYOLO_SIMD(void norm_apply_with_slopes(NormArgs const&))
LEYOLO_SIMD(void norm_slope_sums(NormArgs const&))

namespace {

// Sum over the repetitions of a channel.
double folded(float const* table, int64_t c, int64_t channels, int64_t period) {
  double total = 0;
  for (int64_t i = c; i < period; i += channels) total += table[i];
  return total;
}

// f(first, pixels) for stretches of `pixels`.
template <class F>
void each_stretch(int64_t pixels, int64_t channels, F&& f) {
  int64_t const step = norm_stretch(norm_period(channels)) / channels;
  for (int64_t p = 0; p < pixels; p += step) f(p, std::min(step, pixels - p));
}

}  // namespace

void NormSums::clear() const { std::fill_n(memory, size(channels), 0.0); }

int64_t NormTables::size(int64_t channels) { return 5 * norm_period(channels); }

NormTables::NormTables(float* memory, int64_t channels, Activation activation)
    : channels(channels), period(norm_period(channels)), activation(activation) {
  for (float** table : {&mean, &scale, &shift, &offset, &slope}) *table = memory, memory += period;
}

void NormTables::set(float const* m, float const* variance, View weight, View bias, double eps) {
  for (int64_t c = 0; c < channels; ++c) {
    mean[c] = m[c];
    scale[c] = float((weight ? weight.as<float>()[c] : 1.0f) / std::sqrt(variance[c] + eps));
    shift[c] = bias ? bias.as<float>()[c] : 0.0f;
  }
  for (float* table : {mean, scale, shift}) norm_repeat(table, channels, period);
}

void NormTables::set_gradient(double const* dz, double const* dz_z, float const* variance, double eps, int64_t pixels) {
  for (int64_t c = 0; c < channels; ++c) {
    offset[c] = float(scale[c] * dz[c] / double(pixels));
    slope[c] = float(scale[c] * dz_z[c] / (variance[c] + eps) / double(pixels));
  }
  for (float* table : {offset, slope}) norm_repeat(table, channels, period);
}

NormArgs NormTables::args(float const* z, int64_t pixels) const {
  NormArgs a{};
  a.x = z;
  a.count = pixels * channels, a.period = period;
  a.mean = mean, a.scale = scale, a.shift = shift, a.offset = offset, a.slope = slope;
  a.activation = activation;
  return a;
}

void NormTables::apply(float const* z, int64_t pixels, float* out, float* slopes) const {
  NormArgs a = args(z, pixels);
  a.out = out, a.slopes = slopes;
  if (slopes)
    LEYOLO_PICK(norm_apply_with_slopes)(a);
  else
    LEYOLO_PICK(norm_apply)(a);
}

void NormTables::gradient(float const* dz, float const* z, int64_t pixels, float* out) const {
  NormArgs a = args(z, pixels);
  a.activation = Activation::none;  // whose slope dz has
  a.gradient = dz, a.out = out;
  LEYOLO_PICK(norm_x_gradient)(a);
}

int64_t NormPass::size(int64_t channels) { return kNormTables * norm_period(channels); }

static void set_sums(NormArgs& a, float* memory) {
  a.sum = memory, a.product = a.sum + a.period, a.rest = a.product + a.period, a.product_rest = a.rest + a.period;
  std::fill_n(memory, kNormTables * a.period, 0.0f);
}

void NormPass::statistics(float const* z, int64_t pixels, NormSums const& sums) const {
  int64_t const channels = sums.channels, period = norm_period(channels);
  each_stretch(pixels, channels, [&](int64_t first, int64_t n) {
    NormArgs a{};
    a.x = z + first * channels;
    a.count = n * channels, a.period = period;
    set_sums(a, memory);
    LEYOLO_PICK(norm_sum)(a);
    for (int64_t c = 0; c < channels; ++c) a.sum[c] = float(folded(a.sum, c, channels, period) / double(n));
    norm_repeat(a.sum, channels, period);
    a.mean = a.sum;
    LEYOLO_PICK(norm_squares)(a);
    double *const mean = sums.first(), *const squares = sums.second();
    double const share = double(n) / (sums.count() + double(n)), weight = share * sums.count();
    for (int64_t c = 0; c < channels; ++c) {
      double const rest = folded(a.rest, c, channels, period);
      double const apart = a.sum[c] + rest / double(n) - mean[c];
      mean[c] += apart * share;
      squares[c] += folded(a.product, c, channels, period) - rest * rest / double(n) + apart * apart * weight;
    }
    sums.count() += double(n);
  });
}

void NormPass::gradients(NormTables const& tables, float const* dz, float const* z, int64_t pixels,
                         NormSums const& sums) const {
  NormArgs a = tables.args(z, pixels);
  a.activation = Activation::none;
  a.gradient = dz;
  gradients(LEYOLO_PICK(norm_gradient_sums), a, sums);
}

void NormPass::gradients(NormTables const& tables, float* gradient, float const* slopes, float const* z, int64_t pixels,
                         NormSums const& sums) const {
  NormArgs a = tables.args(z, pixels);
  a.gradient = a.out = gradient, a.slopes = const_cast<float*>(slopes);
  gradients(LEYOLO_PICK(norm_slope_sums), a, sums);
}

void NormPass::gradients(void (*pass)(NormArgs const&), NormArgs all, NormSums const& sums) const {
  int64_t const channels = sums.channels, period = all.period;
  each_stretch(all.count / channels, channels, [&](int64_t first, int64_t n) {
    NormArgs a = all;
    int64_t const begin = first * channels;
    a.x += begin, a.gradient += begin, a.count = n * channels;
    if (a.slopes) a.slopes += begin, a.out += begin;
    set_sums(a, memory);
    pass(a);
    for (int64_t c = 0; c < channels; ++c) {
      sums.first()[c] += folded(a.sum, c, channels, period) + folded(a.rest, c, channels, period);
      sums.second()[c] += folded(a.product, c, channels, period) + folded(a.product_rest, c, channels, period);
    }
  });
}

void merge_statistics(NormSums const& sums, int64_t pieces) {
  double *const mean = sums.first(), *const squares = sums.second();
  for (int64_t i = 1; i < pieces; ++i) {
    NormSums const from = sums.piece(i);
    double const share = from.count() / (sums.count() + from.count()), weight = share * sums.count();
    for (int64_t c = 0; c < sums.channels; ++c) {
      double const apart = from.first()[c] - mean[c];
      mean[c] += apart * share;
      squares[c] += from.second()[c] + apart * apart * weight;
    }
    sums.count() += from.count();
  }
}

void merge_gradients(NormSums const& sums, int64_t pieces) {
  for (int64_t i = 1; i < pieces; ++i)
    for (int64_t c = 0; c < sums.channels; ++c) {
      sums.first()[c] += sums.piece(i).first()[c];
      sums.second()[c] += sums.piece(i).second()[c];
    }
}

}  // namespace leyolo

// Sums are made per stretch of a map that fits the L1 cache (twice over it: the mean, then the squares around it), and
// added up, with what rounding left over, in float64 in their order: the same bits for any number of threads.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/activation_math.h"
#include "core/convert.h"
#include "core/cpu.h"
#include "ops/batch_norm_act/batch_norm_act.h"
#include "ops/batch_norm_act/batch_norm_act_args.h"

namespace leyolo {

LEYOLO_SIMD(void norm_sum(NormArgs const&))
LEYOLO_SIMD(void norm_squares(NormArgs const&))
LEYOLO_SIMD(void norm_apply(NormArgs const&))
LEYOLO_SIMD(void norm_gradient_sums(NormArgs const&))
LEYOLO_SIMD(void norm_x_gradient(NormArgs const&))

namespace {

struct Plan {
  int64_t channels, values, period, stretch, pieces;

  explicit Plan(View x) : channels(std::max<int64_t>(1, x.shape[x.rank - 1])), values(x.numel()) {
    // Whole steps of every instruction set; not shorter, so that few values are added to one float32 sum.
    period = std::lcm(channels, int64_t(64));
    stretch = period * std::max<int64_t>(16, 8192 / period);
    pieces = (values + stretch - 1) / stretch;
  }
  int64_t rows(int64_t piece) const { return std::min(stretch, values - piece * stretch) / channels; }
};

constexpr int64_t kTables = 4;  // of a stretch: see NormArgs

// What a pass needs, laid out in the workspace.
struct Scratch {
  float *mean, *scale, *shift, *offset, *slope;  // [period]
  float* sums;                                   // [pieces, 4, period]: of a stretch, folded into the first channels
  float* halves;                                 // float32 copies of half tensors

  Scratch(Plan const& p, View workspace) {
    float* next = workspace.as<float>();
    for (float** table : {&mean, &scale, &shift, &offset, &slope}) *table = next, next += p.period;
    sums = next;
    halves = next + kTables * p.pieces * p.period;
  }
};

void repeat(float* table, Plan const& p) {
  for (int64_t i = p.channels; i < p.period; ++i) table[i] = table[i - p.channels];
}

// table[0 .. channels) becomes the sums over the repetitions.
void fold(float* table, Plan const& p) {
  for (int64_t i = p.channels; i < p.period; i += p.channels)
    for (int64_t c = 0; c < p.channels; ++c) table[c] += table[i + c];
}

// The same for sums with rests: what float32 cannot hold becomes the new rest.
void fold(float* table, float* rest, Plan const& p) {
  for (int64_t c = 0; c < p.channels; ++c) {
    double total = 0;
    for (int64_t i = c; i < p.period; i += p.channels) total += double(table[i]) + rest[i];
    table[c] = float(total), rest[c] = float(total - table[c]);
  }
}

template <class F>
void each_piece(Plan const& p, Context const& context, F&& f) {
  parallel_for(context, 0, p.pieces, 1 + 16384 / p.stretch, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i, p.rows(i));
  });
}

NormArgs args(Plan const& p, Scratch const& s, Activation activation, float const* x, int64_t piece) {
  NormArgs a{};
  a.x = x + piece * p.stretch;
  a.count = p.rows(piece) * p.channels, a.period = p.period;
  a.mean = s.mean, a.scale = s.scale, a.shift = s.shift, a.offset = s.offset, a.slope = s.slope;
  a.sum = s.sums + kTables * piece * p.period, a.product = a.sum + p.period, a.rest = a.product + p.period;
  a.product_rest = a.rest + p.period;
  a.activation = activation;
  return a;
}

void statistics(float const* x, Plan const& p, Scratch const& s, float* mean, float* variance, Context const& context) {
  auto *const sum = LEYOLO_PICK(norm_sum), *const squares = LEYOLO_PICK(norm_squares);
  each_piece(p, context, [&](int64_t piece, int64_t rows) {
    NormArgs a = args(p, s, Activation::none, x, piece);
    std::fill_n(a.sum, 3 * p.period, 0.0f);
    sum(a);
    fold(a.sum, p);
    for (int64_t c = 0; c < p.channels; ++c) a.sum[c] /= float(rows);
    repeat(a.sum, p);
    a.mean = a.sum;
    squares(a);
    fold(a.product, p), fold(a.rest, p);
  });
  int64_t const rows = p.values / p.channels;
  parallel_for(context, 0, p.channels, 1 + 16384 / p.pieces, [&](int64_t begin, int64_t end) {
    constexpr int64_t kAtOnce = 16;  // neighbouring channels share cache lines
    for (int64_t first = begin; first < end; first += kAtOnce) {
      int64_t const n = std::min(kAtOnce, end - first);
      double total[kAtOnce] = {}, spread[kAtOnce] = {};
      for (int64_t i = 0; i < p.pieces; ++i)
        for (int64_t c = 0; c < n; ++c) {
          float const* const stretch = s.sums + kTables * i * p.period + first + c;
          total[c] += double(p.rows(i)) * stretch[0] + stretch[2 * p.period];
        }
      for (int64_t c = 0; c < n; ++c) total[c] /= double(rows);
      for (int64_t i = 0; i < p.pieces; ++i)
        for (int64_t c = 0; c < n; ++c) {
          float const* const stretch = s.sums + kTables * i * p.period + first + c;
          double const d = stretch[0] - total[c];
          spread[c] += stretch[p.period] + 2 * d * stretch[2 * p.period] + double(p.rows(i)) * d * d;
        }
      for (int64_t c = 0; c < n; ++c)
        mean[first + c] = float(total[c]), variance[first + c] = float(spread[c] / double(rows));
    }
  });
}

double inverse_deviation(double variance, double eps) { return 1 / std::sqrt(variance + eps); }

void fill_tables(Plan const& p, Scratch const& s, View weight, View bias, View mean, View variance, double eps) {
  for (int64_t c = 0; c < p.channels; ++c) {
    s.mean[c] = mean.as<float>()[c];
    s.scale[c] = float(inverse_deviation(variance.as<float>()[c], eps) * (weight ? weight.as<float>()[c] : 1.0f));
    s.shift[c] = bias ? bias.as<float>()[c] : 0.0f;
  }
  repeat(s.mean, p), repeat(s.scale, p), repeat(s.shift, p);
}

// float64, for gradient checks: plain loops, channel by channel.
template <class F>
void each_channel_f64(View x, Context const& context, F&& f) {
  int64_t const channels = x.shape[x.rank - 1], rows = x.numel() / channels;
  parallel_for(context, 0, channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) f(c, channels, rows);
  });
}

double or_one(View v, int64_t c) { return v ? v.as<double>()[c] : 1; }
double or_zero(View v, int64_t c) { return v ? v.as<double>()[c] : 0; }

void forward_f64(View x, View weight, View bias, View mean, View variance, View y, BatchNormAct const& p,
                 Context const& context) {
  each_channel_f64(x, context, [&](int64_t c, int64_t step, int64_t rows) {
    double const* const from = x.as<double>() + c;
    double &m = mean.as<double>()[c], &v = variance.as<double>()[c];
    if (p.training) {
      m = v = 0;
      for (int64_t i = 0; i < rows; ++i) m += from[i * step];
      m /= double(rows);
      for (int64_t i = 0; i < rows; ++i) v += (from[i * step] - m) * (from[i * step] - m);
      v /= double(rows);
    }
    double const scale = inverse_deviation(v, p.eps) * or_one(weight, c), shift = or_zero(bias, c);
    for (int64_t i = 0; i < rows; ++i)
      y.as<double>()[i * step + c] = activate(p.activation, (from[i * step] - m) * scale + shift);
  });
}

void backward_f64(View gradient, View x, View weight, View bias, View mean, View variance, View gx, View gw, View gb,
                  BatchNormAct const& p, Context const& context) {
  each_channel_f64(x, context, [&](int64_t c, int64_t step, int64_t rows) {
    double const m = mean.as<double>()[c], inverse = inverse_deviation(variance.as<double>()[c], p.eps),
                 w = or_one(weight, c);
    auto const unit = [&](int64_t i) { return (x.as<double>()[i * step + c] - m) * inverse; };
    auto const dz = [&](int64_t i) {
      return gradient.as<double>()[i * step + c] * activation_gradient(p.activation, unit(i) * w + or_zero(bias, c));
    };
    double sum = 0, product = 0;
    for (int64_t i = 0; i < rows; ++i) sum += dz(i), product += dz(i) * unit(i);
    if (gw) gw.as<double>()[c] = product;
    if (gb) gb.as<double>()[c] = sum;
    double const n = p.training ? double(rows) : std::numeric_limits<double>::infinity();
    for (int64_t i = 0; gx && i < rows; ++i)
      gx.as<double>()[i * step + c] = w * inverse * (dz(i) - sum / n - unit(i) * product / n);
  });
}

}  // namespace

int64_t batch_norm_act_workspace_cpu(View x, bool backward) {
  if (x.dtype == DType::f64) return 0;
  Plan const p(x);
  int64_t const copies = x.dtype == DType::f32 ? 0 : (backward ? 3 : 2) * p.values;
  return 4 * (5 * p.period + kTables * p.pieces * p.period + copies);
}

void batch_norm_act_cpu(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                        BatchNormAct const& params, Context const& context) {
  if (x.dtype == DType::f64) return forward_f64(x, weight, bias, mean, variance, y, params, context);
  Plan const p(x);
  Scratch const s(p, workspace);
  bool const half = x.dtype != DType::f32;
  float *const from = half ? s.halves : x.as<float>(), *const to = half ? s.halves + p.values : y.as<float>();
  if (half) to_float(x.data, x.dtype, from, p.values, context);
  if (params.training) statistics(from, p, s, mean.as<float>(), variance.as<float>(), context);
  fill_tables(p, s, weight, bias, mean, variance, params.eps);
  auto* const apply = LEYOLO_PICK(norm_apply);
  each_piece(p, context, [&](int64_t piece, int64_t) {
    NormArgs a = args(p, s, params.activation, from, piece);
    a.out = to + piece * p.stretch;
    apply(a);
  });
  if (half) from_float(to, y.data, y.dtype, p.values, context);
}

void batch_norm_act_backward_cpu(View gradient, View x, View weight, View bias, View mean, View variance, View gx,
                                 View gw, View gb, View workspace, BatchNormAct const& params, Context const& context) {
  if (x.dtype == DType::f64)
    return backward_f64(gradient, x, weight, bias, mean, variance, gx, gw, gb, params, context);
  Plan const p(x);
  Scratch const s(p, workspace);
  bool const half = x.dtype != DType::f32;
  float *from = x.as<float>(), *g = gradient.as<float>(), *to = gx ? gx.as<float>() : nullptr;
  if (half) {
    from = s.halves, g = from + p.values, to = gx ? g + p.values : nullptr;
    to_float(x.data, x.dtype, from, p.values, context);
    to_float(gradient.data, gradient.dtype, g, p.values, context);
  }
  fill_tables(p, s, weight, bias, mean, variance, params.eps);
  std::fill_n(s.offset, p.period, 0.0f), std::fill_n(s.slope, p.period, 0.0f);
  if (params.training || gw || gb) {
    auto* const sums = LEYOLO_PICK(norm_gradient_sums);
    each_piece(p, context, [&](int64_t piece, int64_t) {
      NormArgs a = args(p, s, params.activation, from, piece);
      a.gradient = g + piece * p.stretch;
      std::fill_n(a.sum, kTables * p.period, 0.0f);
      sums(a);
      fold(a.sum, a.rest, p), fold(a.product, a.product_rest, p);
    });
    double const rows = double(p.values / p.channels);
    for (int64_t c = 0; c < p.channels; ++c) {
      double sum = 0, product = 0;
      for (int64_t i = 0; i < p.pieces; ++i) {
        float const* const stretch = s.sums + kTables * i * p.period + c;
        sum += double(stretch[0]) + stretch[2 * p.period];
        product += double(stretch[p.period]) + stretch[3 * p.period];
      }
      double const inverse = inverse_deviation(variance.as<float>()[c], params.eps);
      if (gw) gw.as<float>()[c] = float(product * inverse);
      if (gb) gb.as<float>()[c] = float(sum);
      if (!params.training) continue;
      s.offset[c] = float(s.scale[c] * sum / rows);
      s.slope[c] = float(s.scale[c] * product * inverse * inverse / rows);
    }
    repeat(s.offset, p), repeat(s.slope, p);
  }
  if (!to) return;
  auto* const x_gradient = LEYOLO_PICK(norm_x_gradient);
  each_piece(p, context, [&](int64_t piece, int64_t) {
    NormArgs a = args(p, s, params.activation, from, piece);
    a.gradient = g + piece * p.stretch;
    a.out = to + piece * p.stretch;
    x_gradient(a);
  });
  if (half) from_float(to, gx.data, gx.dtype, p.values, context);
}

}  // namespace leyolo

// Sums are made per stretch of a map of some 32 KB (twice over it: the mean, then the squares around it), and
// added up, with what rounding left over, in float64 in their order: the same bits for any number of threads.
#include <algorithm>
#include <cmath>

#include "core/activation_math.h"
#include "core/convert.h"
#include "core/cpu.h"
#include "ops/batch_norm_act/batch_norm_act.h"
#include "ops/batch_norm_act/batch_norm_act_args.h"
#include "ops/batch_norm_act/norm_stretch.h"

namespace leyolo {

LEYOLO_SIMD(void norm_sum(NormArgs const&))
LEYOLO_SIMD(void norm_squares(NormArgs const&))
LEYOLO_SIMD(void norm_apply(NormArgs const&))
LEYOLO_SIMD(void norm_gradient_sums(NormArgs const&))
LEYOLO_SIMD(void norm_x_gradient(NormArgs const&))

namespace {

constexpr int64_t kMostPeriod = 4 * 16;  // of a plane: kNormVectors vectors of any instruction set

// How a map is cut. Channels last: into stretches of all channels, whose tables are repeated up to a period. Channels
// first: every plane of a channel by itself.
struct Plan {
  bool planes;
  int64_t channels, values, period, stretch;
  int64_t images, parts;  // a channel's stretches: `parts` of each image (channels last: of all of them together)
  int64_t pieces, area;

  Plan(View x, bool channels_first) : planes(channels_first), values(x.numel()) {
    channels = std::max<int64_t>(1, x.shape[planes ? 1 : x.rank - 1]);
    if (planes) {
      images = x.shape[0];
      area = values / std::max<int64_t>(1, images * channels);
      period = kNormVectors * lanes();
      stretch = kNormStretch;
      parts = (area + stretch - 1) / stretch;
      pieces = images * channels * parts;
    } else {
      period = norm_period(channels);
      stretch = norm_stretch(period);
      pieces = parts = (values + stretch - 1) / stretch;
      images = 1, area = values;
    }
  }
  int64_t table() const { return planes ? channels : period; }  // values of one that belongs to channels
  int64_t kept() const { return planes ? 1 : period; }          // values of a table of a piece
  int64_t piece(int64_t image, int64_t channel, int64_t part) const {
    return planes ? (image * channels + channel) * parts + part : part;
  }
  int64_t begin(int64_t piece) const { return piece / parts * area + piece % parts * stretch; }
  int64_t count(int64_t piece) const { return std::min(stretch, area - piece % parts * stretch); }
  int64_t rows(int64_t piece) const { return planes ? count(piece) : count(piece) / channels; }
};

// What a pass needs, laid out in the workspace.
struct Scratch {
  float *mean, *scale, *shift, *offset, *slope;  // [table]
  float* sums;                                   // [pieces, 4, kept]: of a stretch, folded into the first channels
  float* halves;                                 // float32 copies of half tensors

  Scratch(Plan const& p, View workspace) {
    float* next = workspace.as<float>();
    for (float** table : {&mean, &scale, &shift, &offset, &slope}) *table = next, next += p.table();
    sums = next;
    halves = next + kNormTables * p.pieces * p.kept();
  }
};

void repeat(float* table, Plan const& p) { norm_repeat(table, p.channels, p.table()); }

// The sum of a plane's table and of its rests, in a fixed order of four chains side by side.
double plane_sum(float const* table, float const* rest, Plan const& p) {
  double chain[4] = {};
  for (int64_t i = 0; i < p.period; i += 4)
    for (int64_t j = 0; j < 4; ++j) chain[j] += double(table[i + j]) + (rest ? rest[i + j] : 0.0f);
  return (chain[0] + chain[1]) + (chain[2] + chain[3]);
}

// table[0 .. channels of a piece) becomes the sums over the repetitions.
void fold(float* table, Plan const& p) {
  if (p.planes) {
    table[0] = float(plane_sum(table, nullptr, p));
    return;
  }
  for (int64_t i = p.channels; i < p.period; i += p.channels)
    for (int64_t c = 0; c < p.channels; ++c) table[c] += table[i + c];
}

// The same for sums with rests: what float32 cannot hold becomes the new rest.
void fold(float* table, float* rest, Plan const& p) {
  for (int64_t c = 0; c < (p.planes ? 1 : p.channels); ++c) {
    double total = 0;
    if (p.planes)
      total = plane_sum(table, rest, p);
    else
      for (int64_t i = c; i < p.period; i += p.channels) total += double(table[i]) + rest[i];
    table[c] = float(total), rest[c] = float(total - table[c]);
  }
}

// Of a piece; `local`: where a plane's sums are made.
NormArgs args(Plan const& p, Scratch const& s, Activation activation, float const* x, int64_t piece, float* local) {
  int64_t const channel = p.planes ? piece / p.parts % p.channels : 0;
  NormArgs a{};
  a.x = x + p.begin(piece);
  a.count = p.count(piece), a.period = p.period;
  a.mean = s.mean + channel, a.scale = s.scale + channel, a.shift = s.shift + channel;
  a.offset = s.offset + channel, a.slope = s.slope + channel;
  a.sum = p.planes ? local : s.sums + kNormTables * piece * p.period;
  a.product = a.sum + p.period, a.rest = a.product + p.period, a.product_rest = a.rest + p.period;
  a.activation = activation;
  a.plane = p.planes;
  return a;
}

// f(args, piece) for every piece.
template <class F>
void each_piece(Plan const& p, Scratch const& s, Activation activation, float const* x, Context const& context, F&& f) {
  int64_t const grain = 1 + 16384 / std::clamp<int64_t>(p.area, 1, p.stretch);
  parallel_for(context, 0, p.pieces, grain, [&](int64_t begin, int64_t end) {
    float local[kNormTables * kMostPeriod];
    for (int64_t i = begin; i < end; ++i) {
      NormArgs a = args(p, s, activation, x, i, local);
      f(a, i);
    }
  });
}

// f(c, sum, product, rest, rest of the product, rows) of every stretch of the n channels from `first` on, in order.
template <class F>
void each_kept(Plan const& p, Scratch const& s, int64_t first, int64_t n, F&& f) {
  for (int64_t image = 0; image < p.images; ++image)
    for (int64_t part = 0; part < p.parts; ++part)
      for (int64_t c = 0; c < n; ++c) {
        int64_t const piece = p.piece(image, first + c, part);
        float const* const t = s.sums + kNormTables * piece * p.kept() + (p.planes ? 0 : first + c);
        f(c, t[0], t[p.kept()], t[2 * p.kept()], t[3 * p.kept()], p.rows(piece));
      }
}

// The tables of sums of a piece, before and after its passes.
void clear(NormArgs const& a) { std::fill_n(a.sum, kNormTables * a.period, 0.0f); }
void keep(NormArgs const& a, Plan const& p, Scratch const& s, int64_t piece) {
  for (int64_t t = 0; p.planes && t < kNormTables; ++t) s.sums[kNormTables * piece + t] = a.sum[t * a.period];
}

void statistics(float const* x, Plan const& p, Scratch const& s, float* mean, float* variance, Context const& context) {
  auto *const sum = LEYOLO_PICK(norm_sum), *const squares = LEYOLO_PICK(norm_squares);
  each_piece(p, s, Activation::none, x, context, [&](NormArgs& a, int64_t piece) {
    clear(a);
    sum(a);
    fold(a.sum, p);
    for (int64_t c = 0; c < (p.planes ? 1 : p.channels); ++c) a.sum[c] /= float(p.rows(piece));
    if (!p.planes) repeat(a.sum, p);
    a.mean = a.sum;
    squares(a);
    fold(a.product, p), fold(a.rest, p);
    keep(a, p, s, piece);
  });
  int64_t const rows = p.values / p.channels;
  parallel_for(context, 0, p.channels, 1 + 16384 / (p.images * p.parts), [&](int64_t begin, int64_t end) {
    constexpr int64_t kAtOnce = 16;  // neighbouring channels share cache lines
    for (int64_t first = begin; first < end; first += kAtOnce) {
      int64_t const n = std::min(kAtOnce, end - first);
      double total[kAtOnce] = {}, spread[kAtOnce] = {};
      each_kept(p, s, first, n, [&](int64_t c, float around, float, float rest, float, int64_t count) {
        total[c] += double(count) * around + rest;
      });
      for (int64_t c = 0; c < n; ++c) total[c] /= double(rows);
      each_kept(p, s, first, n, [&](int64_t c, float around, float square, float rest, float, int64_t count) {
        double const d = around - total[c];
        spread[c] += square + 2 * d * rest + double(count) * d * d;
      });
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

// float64, for gradient checks: plain loops, channel by channel. f(c, rows, at): value i of channel c lies at at(i).
template <class F>
void each_channel_f64(Plan const& p, Context const& context, F&& f) {
  parallel_for(context, 0, p.channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      f(c, p.values / p.channels, [&p, c](int64_t i) {
        return p.planes ? (i / p.area * p.channels + c) * p.area + i % p.area : i * p.channels + c;
      });
  });
}

double or_one(View v, int64_t c) { return v ? v.as<double>()[c] : 1; }
double or_zero(View v, int64_t c) { return v ? v.as<double>()[c] : 0; }

void forward_f64(View x, View weight, View bias, View mean, View variance, View y, BatchNormAct const& p,
                 Context const& context) {
  each_channel_f64(Plan(x, p.channels_first), context, [&](int64_t c, int64_t rows, auto at) {
    double const* const from = x.as<double>();
    double &m = mean.as<double>()[c], &v = variance.as<double>()[c];
    if (p.training) {
      m = v = 0;
      for (int64_t i = 0; i < rows; ++i) m += from[at(i)];
      m /= double(rows);
      for (int64_t i = 0; i < rows; ++i) v += (from[at(i)] - m) * (from[at(i)] - m);
      v /= double(rows);
    }
    double const scale = inverse_deviation(v, p.eps) * or_one(weight, c), shift = or_zero(bias, c);
    for (int64_t i = 0; i < rows; ++i)
      y.as<double>()[at(i)] = activate(p.activation, (from[at(i)] - m) * scale + shift);
  });
}

void backward_f64(View gradient, View x, View weight, View bias, View mean, View variance, View gx, View gw, View gb,
                  BatchNormAct const& p, Context const& context) {
  each_channel_f64(Plan(x, p.channels_first), context, [&](int64_t c, int64_t rows, auto at) {
    double const m = mean.as<double>()[c], inverse = inverse_deviation(variance.as<double>()[c], p.eps),
                 w = or_one(weight, c);
    auto const unit = [&](int64_t i) { return (x.as<double>()[at(i)] - m) * inverse; };
    auto const dz = [&](int64_t i) {
      return gradient.as<double>()[at(i)] * activation_gradient(p.activation, unit(i) * w + or_zero(bias, c));
    };
    double sum = 0, product = 0;
    for (int64_t i = 0; i < rows; ++i) sum += dz(i), product += dz(i) * unit(i);
    if (gw) gw.as<double>()[c] = product;
    if (gb) gb.as<double>()[c] = sum;
    double const n = p.training ? double(rows) : std::numeric_limits<double>::infinity();
    for (int64_t i = 0; gx && i < rows; ++i)
      gx.as<double>()[at(i)] = w * inverse * (dz(i) - sum / n - unit(i) * product / n);
  });
}

}  // namespace

int64_t batch_norm_act_workspace_cpu(View x, bool channels_first, bool backward) {
  if (x.dtype == DType::f64) return 0;
  Plan const p(x, channels_first);
  int64_t const copies = x.dtype == DType::f32 ? 0 : (backward ? 3 : 2) * p.values;
  return 4 * (5 * p.table() + kNormTables * p.pieces * p.kept() + copies);
}

void batch_norm_act_cpu(View x, View weight, View bias, View mean, View variance, View y, View workspace,
                        BatchNormAct const& params, Context const& context) {
  if (x.dtype == DType::f64) return forward_f64(x, weight, bias, mean, variance, y, params, context);
  Plan const p(x, params.channels_first);
  Scratch const s(p, workspace);
  bool const half = x.dtype != DType::f32;
  float *const from = half ? s.halves : x.as<float>(), *const to = half ? s.halves + p.values : y.as<float>();
  if (half) to_float(x.data, x.dtype, from, p.values, context);
  if (params.training) statistics(from, p, s, mean.as<float>(), variance.as<float>(), context);
  fill_tables(p, s, weight, bias, mean, variance, params.eps);
  auto* const apply = LEYOLO_PICK(norm_apply);
  each_piece(p, s, params.activation, from, context, [&](NormArgs& a, int64_t piece) {
    a.out = to + p.begin(piece);
    apply(a);
  });
  if (half) from_float(to, y.data, y.dtype, p.values, context);
}

void batch_norm_act_backward_cpu(View gradient, View x, View weight, View bias, View mean, View variance, View gx,
                                 View gw, View gb, View workspace, BatchNormAct const& params, Context const& context) {
  if (x.dtype == DType::f64)
    return backward_f64(gradient, x, weight, bias, mean, variance, gx, gw, gb, params, context);
  Plan const p(x, params.channels_first);
  Scratch const s(p, workspace);
  bool const half = x.dtype != DType::f32;
  float *from = x.as<float>(), *g = gradient.as<float>(), *to = gx ? gx.as<float>() : nullptr;
  if (half) {
    from = s.halves, g = from + p.values, to = gx ? g + p.values : nullptr;
    to_float(x.data, x.dtype, from, p.values, context);
    to_float(gradient.data, gradient.dtype, g, p.values, context);
  }
  fill_tables(p, s, weight, bias, mean, variance, params.eps);
  std::fill_n(s.offset, p.table(), 0.0f), std::fill_n(s.slope, p.table(), 0.0f);
  if (params.training || gw || gb) {
    auto* const sums = LEYOLO_PICK(norm_gradient_sums);
    each_piece(p, s, params.activation, from, context, [&](NormArgs& a, int64_t piece) {
      a.gradient = g + p.begin(piece);
      clear(a);
      sums(a);
      fold(a.sum, a.rest, p), fold(a.product, a.product_rest, p);
      keep(a, p, s, piece);
    });
    double const rows = double(p.values / p.channels);
    for (int64_t c = 0; c < p.channels; ++c) {
      double sum = 0, product = 0;
      each_kept(p, s, c, 1, [&](int64_t, float dz, float dz_x, float dz_rest, float dz_x_rest, int64_t) {
        sum += double(dz) + dz_rest;
        product += double(dz_x) + dz_x_rest;
      });
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
  each_piece(p, s, params.activation, from, context, [&](NormArgs& a, int64_t piece) {
    a.gradient = g + p.begin(piece);
    a.out = to + p.begin(piece);
    x_gradient(a);
  });
  if (half) from_float(to, gx.data, gx.dtype, p.values, context);
}

}  // namespace leyolo

// The passes of batch norm over a stretch of a map. All are limited by memory; four vectors at a time hide the latency
// of the exponential. PLANE: of one channel, so that what belongs to channels is one value.
#include "core/simd.h"
#include "ops/batch_norm_act/batch_norm_act_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

constexpr int kStep = kNormVectors * kLanes;

#define LEYOLO_EACH _Pragma("GCC unroll 4") for (int v = 0; v < kNormVectors; ++v)

// Calls step(i, r, part) for whole steps and for what is left: i counts values, r wraps around at the period.
template <class F>
LEYOLO_INLINE void walk(NormArgs const& a, F&& step) {
  long long r = 0, i = 0;
  for (; i + kStep <= a.count; i += kStep) {
    step(i, r, false);
    r = r + kStep == a.period ? 0 : r + kStep;
  }
  if (i < a.count) step(i, r, true);
}

// Vector v of the step at p; of the last step, zeros where nothing is left.
LEYOLO_INLINE vf value(float const* p, int v, long long left, bool part) {
  if (!part) return load(p + v * kLanes);
  long long const n = left - v * kLanes;
  return n <= 0 ? vf{} : load_part(p + v * kLanes, n < kLanes ? static_cast<int>(n) : kLanes);
}
LEYOLO_INLINE void put(float* p, vf x, int v, long long left, bool part) {
  if (!part) return store(p + v * kLanes, x);
  long long const n = left - v * kLanes;
  if (n > 0) store_part(p + v * kLanes, x, n < kLanes ? static_cast<int>(n) : kLanes);
}

// What a table holds for vector v of the step at r.
template <bool PLANE>
LEYOLO_INLINE vf of(float const* table, long long r, int v) {
  return PLANE ? vf{} + table[0] : load(table + r + v * kLanes);
}

LEYOLO_INLINE void add_to(float* p, vf x) { store(p, load(p) + x); }
// Adds x to p, and what rounding leaves over to rest (Knuth, TAOCP 2, 4.2.2).
LEYOLO_INLINE void add_to(float* p, float* rest, vf x) {
  vf const before = load(p), after = before + x, added = after - before;
  add_to(rest, (before - (after - added)) + (x - added));
  store(p, after);
}

template <bool SILU>
LEYOLO_INLINE void activate_each(Activation activation, vf (&z)[kNormVectors]) {
  if constexpr (SILU) {
    silu_each(z);
  } else if (activation != Activation::none) {
    LEYOLO_EACH z[v] = activate(activation, z[v]);
  }
}

// z becomes d activation(z) / dz.
template <bool SILU>
LEYOLO_INLINE void differentiate_each(Activation activation, vf (&z)[kNormVectors]) {
  if constexpr (SILU) {
    vf s[kNormVectors];
    LEYOLO_EACH s[v] = -z[v];
    exp_each(s);
    LEYOLO_EACH s[v] = 1.0f / (1.0f + s[v]);
    LEYOLO_EACH z[v] = s[v] * (1.0f + z[v] * (1.0f - s[v]));
  } else {
    LEYOLO_EACH z[v] = activation_gradient(activation, z[v]);
  }
}

template <bool SILU, bool PLANE>
void apply(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part) LEYOLO_LAMBDA {
    vf z[kNormVectors];
    LEYOLO_EACH z[v] = (value(a.x + i, v, a.count - i, part) - of<PLANE>(a.mean, r, v)) * of<PLANE>(a.scale, r, v) +
                       of<PLANE>(a.shift, r, v);
    activate_each<SILU>(a.activation, z);
    LEYOLO_EACH put(a.out + i, z[v], v, a.count - i, part);
  });
}

// The gradient before the activation, and x - mean. Where nothing is left the gradient reads as zero.
template <bool SILU, bool PLANE>
LEYOLO_INLINE void before_activation(NormArgs const& a, long long i, long long r, bool part, vf (&dz)[kNormVectors],
                                     vf (&centred)[kNormVectors]) {
  LEYOLO_EACH centred[v] = value(a.x + i, v, a.count - i, part) - of<PLANE>(a.mean, r, v);
  LEYOLO_EACH dz[v] = centred[v] * of<PLANE>(a.scale, r, v) + of<PLANE>(a.shift, r, v);
  differentiate_each<SILU>(a.activation, dz);
  LEYOLO_EACH dz[v] = dz[v] * value(a.gradient + i, v, a.count - i, part);
}

template <bool SILU, bool PLANE>
void sums(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part) LEYOLO_LAMBDA {
    vf dz[kNormVectors], centred[kNormVectors];
    before_activation<SILU, PLANE>(a, i, r, part, dz, centred);
    LEYOLO_EACH add_to(a.sum + r + v * kLanes, a.rest + r + v * kLanes, dz[v]);
    LEYOLO_EACH add_to(a.product + r + v * kLanes, a.product_rest + r + v * kLanes, dz[v] * centred[v]);
  });
}

template <bool SILU, bool PLANE>
void x_gradient(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part) LEYOLO_LAMBDA {
    vf dz[kNormVectors], centred[kNormVectors];
    before_activation<SILU, PLANE>(a, i, r, part, dz, centred);
    LEYOLO_EACH put(
        a.out + i, of<PLANE>(a.scale, r, v) * dz[v] - of<PLANE>(a.offset, r, v) - centred[v] * of<PLANE>(a.slope, r, v),
        v, a.count - i, part);
  });
}

template <bool SILU>
void apply_with_slopes(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part) LEYOLO_LAMBDA {
    vf z[kNormVectors], slope[kNormVectors];
    LEYOLO_EACH z[v] = (value(a.x + i, v, a.count - i, part) - of<false>(a.mean, r, v)) * of<false>(a.scale, r, v) +
                       of<false>(a.shift, r, v);
    if constexpr (SILU) {
      LEYOLO_EACH slope[v] = -z[v];
      exp_each(slope);
      LEYOLO_EACH {
        vf const s = 1.0f / (1.0f + slope[v]);
        slope[v] = s * (1.0f + z[v] * (1.0f - s));
        z[v] = z[v] * s;
      }
    } else {
      LEYOLO_EACH slope[v] = activation_gradient(a.activation, z[v]);
      LEYOLO_EACH z[v] = activate(a.activation, z[v]);
    }
    LEYOLO_EACH put(a.out + i, z[v], v, a.count - i, part);
    LEYOLO_EACH put(a.slopes + i, slope[v], v, a.count - i, part);
  });
}

template <bool PLANE>
void squares(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part) LEYOLO_LAMBDA {
    LEYOLO_EACH {
      vf d = value(a.x + i, v, a.count - i, part) - of<PLANE>(a.mean, r, v);
      if (part) {
        long long const n = a.count - i - v * kLanes;
        d = reinterpret_cast<vf>(reinterpret_cast<vi>(d) & first_lanes(n < 0        ? 0
                                                                       : n < kLanes ? static_cast<int>(n)
                                                                                    : kLanes));
      }
      add_to(a.rest + r + v * kLanes, d);
      add_to(a.product + r + v * kLanes, d * d);
    }
  });
}

}  // namespace

// sum += x
extern void norm_sum(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part)
              LEYOLO_LAMBDA { LEYOLO_EACH add_to(a.sum + r + v * kLanes, value(a.x + i, v, a.count - i, part)); });
}

// rest += x - mean, product += (x - mean)^2
extern void norm_squares(NormArgs const& a) { a.plane ? squares<true>(a) : squares<false>(a); }

#define LEYOLO_NORM(pass)                                                                            \
  if (a.activation == Activation::silu) return a.plane ? pass<true, true>(a) : pass<true, false>(a); \
  a.plane ? pass<false, true>(a) : pass<false, false>(a)

// out = activation(z)
extern void norm_apply(NormArgs const& a) { LEYOLO_NORM(apply); }

// sum += dz, product += dz (x - mean), each with its rest, where dz = gradient * activation'(z)
extern void norm_gradient_sums(NormArgs const& a) { LEYOLO_NORM(sums); }

extern void norm_x_gradient(NormArgs const& a) { LEYOLO_NORM(x_gradient); }

// The same for channels last in two steps that keep what the activation needs its exponential for.
// out = activation(z), slopes = activation'(z)
extern void norm_apply_with_slopes(NormArgs const& a) {
  a.activation == Activation::silu ? apply_with_slopes<true>(a) : apply_with_slopes<false>(a);
}

// out = dz = gradient * slopes, which may replace the gradient; and the sums of norm_gradient_sums
extern void norm_slope_sums(NormArgs const& a) {
  walk(a, [&](long long i, long long r, bool part) LEYOLO_LAMBDA {
    LEYOLO_EACH {
      vf const dz = value(a.gradient + i, v, a.count - i, part) * value(a.slopes + i, v, a.count - i, part);
      vf const centred = value(a.x + i, v, a.count - i, part) - of<false>(a.mean, r, v);
      put(a.out + i, dz, v, a.count - i, part);
      add_to(a.sum + r + v * kLanes, a.rest + r + v * kLanes, dz);
      add_to(a.product + r + v * kLanes, a.product_rest + r + v * kLanes, dz * centred);
    }
  });
}

#undef LEYOLO_NORM
#undef LEYOLO_EACH

}  // namespace leyolo::LEYOLO_ISA

#include "core/exact_simd.h"
#include "ops/ota/ota_args.h"

namespace leyolo::LEYOLO_ISA {

namespace {

constexpr int kParts = kTile / kLanes;

LEYOLO_INLINE vf lowest() { return splat(-__builtin_inff()); }

// Sixteen running sums in one order of addition.
LEYOLO_INLINE float negative_losses(float const* logits, long long classes) {
  vf sums[kParts] = {};
  for (long long c = 0; c < classes; c += kTile)
    for (int part = 0; part < kParts; ++part) {
      long long const left = classes - c - part * kLanes;
      if (left <= 0) break;
      vf const x = left >= kLanes ? load(logits + c + part * kLanes) : load_part(logits + c + part * kLanes, int(left));
      vf const loss = focal(x).negative;
      sums[part] += left >= kLanes ? loss : (first_lanes(int(left)) ? loss : vf{});
    }
  double total = 0;
  for (int i = 0; i < kTile; ++i) total += double(sums[i / kLanes][i % kLanes]);
  return float(total);
}

LEYOLO_INLINE vf gain(OtaTiles const& of, float const* tile, long long row, int part) {
  return ota_gain(load(tile + row * kTile + part * kLanes), splat(of.near[row]), splat(of.far[row]));
}

}  // namespace

extern void ota_tile(OtaTileArgs const& a) {
  float sums[kTile] = {};
  for (int l = 0; l < a.valid; ++l) sums[l] = negative_losses(a.logits + l * a.classes, a.classes);
  for (int part = 0; part < kParts; ++part) {
    long long const j = a.first + part * kLanes;
    AreaBox<vf> const boxes = boxes_at(a.anchors, j);
    vf const x = load(a.anchors[kCenterX] + j), y = load(a.anchors[kCenterY] + j);
    vf const radius = load(a.anchors[kOtaRadius] + j);
    vf const sum = load(sums + part * kLanes);
    float* const to = a.tile + part * kLanes;
    for (long long g = 0; g < a.target_count; ++g) {
      vf logits{};
      for (int l = 0; l < kLanes; ++l)
        if (part * kLanes + l < a.valid) logits[l] = a.logits[(part * kLanes + l) * a.classes + a.labels[g]];
      AreaBox<vf> const target = box_in_all_lanes(a.targets, g);
      vf const cost = ota_pair_cost(sum, focal(logits), overlap_iou(target, boxes), a.scale);
      vi const related =
          ota_related(x, y, radius, target, splat(a.targets[kCenterX][g]), splat(a.targets[kCenterY][g]));
      store(to + g * kTile, ota_pack(cost, related));
    }
    vf const background = sum * a.scale;
    store(to + a.target_count * kTile, background < __builtin_inff() ? background : vf{});
  }
}

extern void ota_supply(OtaSupplyArgs const& a) {
  AreaBox<vf> const target = box_in_all_lanes(a.targets, a.target);
  vf const cx = splat(a.targets[kCenterX][a.target]), cy = splat(a.targets[kCenterY][a.target]);
  for (long long j = 0; j < a.size; j += kLanes) {
    vi const related = ota_related(load(a.anchors[kCenterX] + j), load(a.anchors[kCenterY] + j),
                                   load(a.anchors[kOtaRadius] + j), target, cx, cy);
    store(a.values + j, related ? -overlap_iou(target, boxes_at(a.anchors, j)) : vf{});
  }
}

extern void ota_columns(OtaColumnArgs const& a) {
  for (long long t = a.of.begin; t < a.of.end; ++t) {
    float const* const tile = a.of.tiles + t * a.of.rows * kTile;
    for (int part = 0; part < kParts; ++part) {
      vf best = lowest();
      for (long long i = 0; i < a.of.rows; ++i) best = max_of(best, gain(a.of, tile, i, part));
      vf sum{};
      long long found = 0;  // rows with more than nothing in any lane; most are penalised all over
      for (long long i = 0; i < a.of.rows; ++i) {
        vf const x = gain(a.of, tile, i, part) - best;
        vi const counts = x > kNegligible;
        if (!any(counts)) continue;
        vf const e = counts ? exp_exact(x) : vf{};
        sum += e;
        store(a.plan + found * kTile, e);
        a.active[found++] = int(i);
      }
      long long const j = t * kTile + part * kLanes, left = a.of.anchors - j;
      vi const valid = first_lanes(left < kLanes ? int(left) : kLanes);
      store(a.v + j, valid ? -(best + log_exact(sum)) : lowest());
      vf const share = valid ? 1.0f / sum : vf{};
      for (long long n = 0; n < found; ++n) {
        float* const to = a.sums + a.active[n] * kTile + part * kLanes;
        store(to, load(to) + load(a.plan + n * kTile) * share);
      }
    }
  }
}

extern void ota_row_best(OtaRowArgs& a) {
  vf near = lowest(), far = lowest();
  for (long long t = a.of.begin; t < a.of.end; ++t)
    for (int part = 0; part < kParts; ++part) {
      long long const j = t * kTile + part * kLanes;
      vf const packed = load(a.of.tiles + (t * a.of.rows + a.row) * kTile + part * kLanes), v = load(a.v + j);
      near = max_of(near, ota_gain(packed, v, lowest()));
      far = max_of(far, ota_gain(packed, lowest(), v));
    }
  a.best_near = a.best_far = -__builtin_inff();
  for (int l = 0; l < kLanes; ++l) {
    a.best_near = near[l] > a.best_near ? near[l] : a.best_near;
    a.best_far = far[l] > a.best_far ? far[l] : a.best_far;
  }
}

// The sum of e^(v - cost + potential) over the row.
extern double ota_row_sum(OtaRowArgs const& a) {
  vf const near = splat(a.of.near[a.row]), far = splat(a.of.far[a.row]);
  vf sums[kParts] = {};
  for (long long t = a.of.begin; t < a.of.end; ++t)
    for (int part = 0; part < kParts; ++part) {
      vf const v = load(a.v + t * kTile + part * kLanes);
      vf const packed = load(a.of.tiles + (t * a.of.rows + a.row) * kTile + part * kLanes);
      vf const x = ota_gain(packed, near + v, far + v);
      vi const counts = x > kNegligible;
      if (any(counts)) sums[part] += counts ? exp_exact(x) : vf{};
    }
  double total = 0;
  for (int i = 0; i < kTile; ++i) total += double(sums[i / kLanes][i % kLanes]);
  return total;
}

extern void ota_decide(OtaDecideArgs const& a) {
  for (long long t = a.of.begin; t < a.of.end; ++t) {
    float const* const tile = a.of.tiles + t * a.of.rows * kTile;
    for (int part = 0; part < kParts; ++part) {
      vf const v = load(a.v + t * kTile + part * kLanes);
      vf best = lowest();
      vi owner = vi{} + int(a.of.rows - 1);
      for (long long i = 0; i < a.of.rows; ++i) {
        vf const packed = load(tile + i * kTile + part * kLanes);
        vf const x = ota_below_top(packed, v, splat(a.of.near[i]), splat(a.of.far[i]));
        vi const better = x > best;
        best = better ? x : best;
        owner = better ? vi{} + int(i) : owner;
      }
      for (int l = 0; l < kLanes; ++l) a.owner[t * kTile + part * kLanes + l] = owner[l];
    }
  }
}

}  // namespace leyolo::LEYOLO_ISA

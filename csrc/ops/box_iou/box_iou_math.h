// The formulas of the IoU family and their derivatives, once for scalars, vectors (V) and CUDA; S is the element type.
// Compiled without contraction: equal boxes have an IoU of exactly 1.
#pragma once

#include "core/box.h"

namespace leyolo {

enum class BoxIou : int { iou, generalized, distance, complete };
enum class BoxFormat : int { xyxy, xywh, cxcywh };

// A box with everything that does not depend on its partner.
template <class V>
struct IouBox {
  V x1, y1, x2, y2, area;
  V cx, cy;  // distance, complete
  V angle;   // complete: atan(width / height)
};
constexpr int kIouPlanes = 8;

LEYOLO_HD float arctangent(float x) {
#ifdef __CUDA_ARCH__
  return atanf(x);
#else
  return __builtin_atanf(x);
#endif
}
LEYOLO_HD double arctangent(double x) {
#ifdef __CUDA_ARCH__
  return atan(x);
#else
  return __builtin_atan(x);
#endif
}

template <class A, class T>
LEYOLO_HD IouBox<A> iou_box(T const* p, BoxFormat format, BoxIou kind) {
  Box<A> const raw = load_box<A>(p);
  IouBox<A> b{raw.x1, raw.y1, raw.x2, raw.y2, area(raw), A(0), A(0), A(0)};
  A width = b.x2 - b.x1, height = b.y2 - b.y1;
  if (format != BoxFormat::xyxy) {
    width = raw.x2, height = raw.y2;
    if (format == BoxFormat::cxcywh) b.x1 = raw.x1 - width / A(2), b.y1 = raw.y1 - height / A(2);
    b.x2 = format == BoxFormat::xywh ? raw.x1 + width : raw.x1 + width / A(2);
    b.y2 = format == BoxFormat::xywh ? raw.y1 + height : raw.y1 + height / A(2);
    // The minima and maxima lose a NaN corner: the area must carry it.
    b.area = b.x1 == b.x1 && b.y1 == b.y1 ? width * height : b.x1 + b.y1;
  }
  b.cx = (b.x1 + b.x2) / A(2), b.cy = (b.y1 + b.y2) / A(2);
  if (kind == BoxIou::complete) b.angle = arctangent(width / height);
  return b;
}

// With `loss`, the variant that torchvision's losses use: eps in every denominator, no intersection where the boxes
// only touch.
template <BoxIou kind, bool loss, class V, class S>
struct IouPair {
  V dx, dy, w, h, inter, bare, joined, iou;  // bare: area of the union; joined: the same, in losses plus eps
  V hull_dx, hull_dy, hull_w, hull_h;        // the smallest box around both
  V gap_x, gap_y, distance, diagonal;
  V turn, alpha;

  static constexpr S kTurn = S(0.40528473456935108577551785283891);  // 4 / pi^2

  LEYOLO_HD V score(IouBox<V> const& a, IouBox<V> const& b, S eps) {
    dx = min_of(a.x2, b.x2) - max_of(a.x1, b.x1), dy = min_of(a.y2, b.y2) - max_of(a.y1, b.y1);
    w = max_of(V{}, dx), h = max_of(V{}, dy);
    inter = w * h;
    bare = a.area + b.area - inter;
    joined = bare;
    if constexpr (loss) joined = joined + eps;
    iou = inter / joined;
    if constexpr (kind == BoxIou::iou) return iou;
    hull_dx = max_of(a.x2, b.x2) - min_of(a.x1, b.x1), hull_dy = max_of(a.y2, b.y2) - min_of(a.y1, b.y1);
    hull_w = loss ? hull_dx : max_of(V{}, hull_dx), hull_h = loss ? hull_dy : max_of(V{}, hull_dy);
    if constexpr (kind == BoxIou::generalized) {
      V const hull = hull_w * hull_h;
      if constexpr (loss) return iou - (hull - bare) / (hull + eps);
      return iou - (hull - bare) / hull;
    }
    gap_x = a.cx - b.cx, gap_y = a.cy - b.cy;
    distance = gap_x * gap_x + gap_y * gap_y;
    diagonal = hull_w * hull_w + hull_h * hull_h + eps;
    V const near = iou - distance / diagonal;
    if constexpr (kind == BoxIou::distance) return near;
    turn = a.angle - b.angle;
    V const v = kTurn * (turn * turn);
    alpha = v / (S(1) - iou + v + eps);
    return near - alpha * v;
  }

  // d score / d a (fields of `a` as independent variables) times g; score() must have run. `alpha` is a constant.
  // Where torch is undecided, as torch: half to each of equal corners, all through a clamp at its edge.
  LEYOLO_HD IouBox<V> gradient(IouBox<V> const& a, IouBox<V> const& b, S eps, V g) const {
    IouBox<V> to{};
    V const of_inter = g / joined;
    V of_area = -(of_inter * iou);
    V hull_gx{}, hull_gy{};
    if constexpr (kind == BoxIou::generalized) {
      V const size = hull_w * hull_h;
      V hull = size;
      if constexpr (loss) hull = hull + eps;
      V const step = g / hull, of_hull = step * ((size - bare) / hull - S(1));
      of_area = of_area + step;
      hull_gx = of_hull * hull_h, hull_gy = of_hull * hull_w;
    } else if constexpr (kind != BoxIou::iou) {
      V const step = S(2) * g / diagonal, of_diagonal = step * (distance / diagonal);
      hull_gx = of_diagonal * hull_w, hull_gy = of_diagonal * hull_h;
      to.cx = -(step * gap_x), to.cy = -(step * gap_y);
      if constexpr (kind == BoxIou::complete) to.angle = -(S(2) * kTurn * (g * alpha * turn));
    }
    to.area = of_area;
    V gx = (of_inter - of_area) * h, gy = (of_inter - of_area) * w;
    if constexpr (loss) {
      gx = dx > V{} ? gx : V{}, gy = dy > V{} ? gy : V{};
      gx = dy > V{} ? gx : V{}, gy = dx > V{} ? gy : V{};
    } else {
      gx = dx >= V{} ? gx : V{}, gy = dy >= V{} ? gy : V{};
      hull_gx = hull_dx >= V{} ? hull_gx : V{}, hull_gy = hull_dy >= V{} ? hull_gy : V{};
    }
    V const x1 = share(b.x1, a.x1), y1 = share(b.y1, a.y1), x2 = share(a.x2, b.x2), y2 = share(a.y2, b.y2);
    to.x1 = -(gx * x1), to.y1 = -(gy * y1), to.x2 = gx * x2, to.y2 = gy * y2;
    if constexpr (kind != BoxIou::iou) {
      to.x1 = to.x1 - hull_gx * (S(1) - x1), to.y1 = to.y1 - hull_gy * (S(1) - y1);
      to.x2 = to.x2 + hull_gx * (S(1) - x2), to.y2 = to.y2 + hull_gy * (S(1) - y2);
    }
    return to;
  }

 private:
  // How much of min(a, b) is a.
  LEYOLO_HD static V share(V a, V b) {
    V const one = V{} + S(1), half = V{} + S(0.5);
    return a < b ? one : a == b ? half : V{};
  }
};

template <class V>
LEYOLO_HD void add_to(IouBox<V>& sum, IouBox<V> const& b) {
  sum.x1 = sum.x1 + b.x1, sum.y1 = sum.y1 + b.y1, sum.x2 = sum.x2 + b.x2, sum.y2 = sum.y2 + b.y2;
  sum.area = sum.area + b.area, sum.cx = sum.cx + b.cx, sum.cy = sum.cy + b.cy, sum.angle = sum.angle + b.angle;
}

// From the gradient of an IouBox to that of the four numbers it was made of.
template <class A, class T>
LEYOLO_HD void iou_box_gradient(T const* p, BoxFormat format, BoxIou kind, IouBox<A> g, T* to) {
  Box<A> const raw = load_box<A>(p);
  bool const corners = format == BoxFormat::xyxy;
  A const width = corners ? raw.x2 - raw.x1 : raw.x2, height = corners ? raw.y2 - raw.y1 : raw.y2;
  A of_width = g.area * height, of_height = g.area * width;
  if (kind == BoxIou::distance || kind == BoxIou::complete) {
    g.x1 = g.x1 + g.cx / A(2), g.x2 = g.x2 + g.cx / A(2);
    g.y1 = g.y1 + g.cy / A(2), g.y2 = g.y2 + g.cy / A(2);
  }
  if (kind == BoxIou::complete) {
    A const ratio = width / height, step = g.angle / (ratio * ratio + A(1)) / height;
    of_width = of_width + step, of_height = of_height - step * ratio;
  }
  A const half = format == BoxFormat::cxcywh ? A(0.5) : A(0);
  if (corners) {
    to[0] = T(g.x1 - of_width), to[1] = T(g.y1 - of_height), to[2] = T(g.x2 + of_width), to[3] = T(g.y2 + of_height);
  } else {
    to[0] = T(g.x1 + g.x2), to[1] = T(g.y1 + g.y2);
    to[2] = T(g.x2 - half * (g.x1 + g.x2) + of_width), to[3] = T(g.y2 - half * (g.y1 + g.y2) + of_height);
  }
}

}  // namespace leyolo

#include "ops/box_iou/box_iou.h"

#include <algorithm>

#include "core/cache.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/box_iou/box_iou_args.h"
#include "ops/box_iou/box_iou_tile.h"

namespace leyolo {

LEYOLO_SIMD(void box_iou_pairs(IouArgs<float> const&))
LEYOLO_SIMD(void box_iou_gradients(IouArgs<float> const&))

namespace {

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

template <class A, class T>
void fill(IouTile<A>& tile, T const* boxes, int count, IouParams const& params) {
  fill_tile(tile, boxes, count, params.format, params.kind);
}
template <class A, class T>
void fill(IouBox<A>* rows, T const* boxes, int count, IouParams const& params) {
  for (int i = 0; i < count; ++i) rows[i] = iou_box<A>(boxes + 4 * i, params.format, params.kind);
}

template <class F>
void for_kind(BoxIou kind, F&& f) {
  switch (kind) {
    case BoxIou::iou: return f(std::integral_constant<BoxIou, BoxIou::iou>());
    case BoxIou::generalized: return f(std::integral_constant<BoxIou, BoxIou::generalized>());
    case BoxIou::distance: return f(std::integral_constant<BoxIou, BoxIou::distance>());
    case BoxIou::complete: return f(std::integral_constant<BoxIou, BoxIou::complete>());
  }
}

void pairs(IouArgs<float> const& a) { LEYOLO_PICK(box_iou_pairs)(a); }
void gradients(IouArgs<float> const& a) { LEYOLO_PICK(box_iou_gradients)(a); }

void pairs(IouArgs<double> const& a) {
  for_kind(a.kind, [&](auto kind) {
    IouPair<decltype(kind)::value, false, double, double> pair;
    for (int i = 0; i < a.rows; ++i)
      for (int j = 0; j < a.columns; ++j) a.out[i * a.pitch + j] = pair.score(a.row[i], box_at(*a.tile, j), a.eps);
  });
}

void gradients(IouArgs<double> const& a) {
  for_kind(a.kind, [&](auto kind) {
    IouPair<decltype(kind)::value, false, double, double> pair;
    for (int i = 0; i < a.rows; ++i)
      for (int j = 0; j < a.columns; ++j) {
        double const g = a.g[i * a.pitch + j];
        IouBox<double> const column = box_at(*a.tile, j);
        IouBox<double> const &self = a.row_gradient ? a.row[i] : column, &other = a.row_gradient ? column : a.row[i];
        pair.score(self, other, a.eps);
        IouBox<double> total = a.row_gradient ? a.row_gradient[i] : box_at(*a.column_gradient, j);
        add_to(total, pair.gradient(self, other, a.eps, g));
        a.row_gradient ? void(a.row_gradient[i] = total) : put_box(*a.column_gradient, j, total);
      }
  });
}

// Both gradients: each box belongs to one task, which goes over all its partners in order, so that the sums do not
// depend on the number of threads.
template <class T>
struct Backward {
  using A = accumulator_t<T>;
  T const *boxes1, *boxes2;
  A const* g;
  int64_t n, m;
  IouParams params;

  void rows(int64_t batch, int64_t first, T* to) const {
    int const count = int(std::min<int64_t>(kIouRows, n - first));
    T const* const mine = boxes1 + 4 * (batch * n + first);
    IouBox<A> row[kIouRows], total[kIouRows] = {};
    IouTile<A> tile;
    fill(row, mine, count, params);
    for (int64_t j = 0; j < m; j += kIouColumns) {
      int const columns = int(std::min<int64_t>(kIouColumns, m - j));
      fill(tile, boxes2 + 4 * (batch * m + j), columns, params);
      gradients({row, &tile, count, columns, m, params.kind, A(params.eps), nullptr, g + (batch * n + first) * m + j,
                 total, nullptr, false});
    }
    for (int i = 0; i < count; ++i)
      iou_box_gradient(mine + 4 * i, params.format, params.kind, total[i], to + 4 * (batch * n + first + i));
  }

  void columns(int64_t batch, int64_t first, int64_t most, T* to) const {
    int const count = int(std::min(most, m - first));
    T const* const mine = boxes2 + 4 * (batch * m + first);
    IouTile<A> tile, total;
    IouBox<A> row[kIouRows];
    fill(tile, mine, count, params);
    for (int j = 0; j < count + kIouPad; ++j) put_box(total, j, IouBox<A>{});
    for (int64_t i = 0; i < n; i += kIouRows) {
      int const rows = int(std::min<int64_t>(kIouRows, n - i));
      fill(row, boxes1 + 4 * (batch * n + i), rows, params);
      gradients({row, &tile, rows, count, m, params.kind, A(params.eps), nullptr, g + (batch * n + i) * m + first,
                 nullptr, &total, false});
    }
    for (int j = 0; j < count; ++j)
      iou_box_gradient(mine + 4 * j, params.format, params.kind, box_at(total, j), to + 4 * (batch * m + first + j));
  }
};

// Writing past the caches spares reading what is overwritten, but the reader finds nothing in them.
bool exceeds_caches(int64_t bytes) {
  CacheSizes const& caches = cache_sizes();
  return bytes > std::max(caches.l3, 4 * caches.l2);
}

void check_boxes(View boxes1, View boxes2) {
  check(boxes1.rank == 3 && boxes1.shape[2] == 4, "box_iou: boxes1 must be [..., N, 4], got ", boxes1);
  check(boxes2.rank == 3 && boxes2.shape[2] == 4, "box_iou: boxes2 must be [..., M, 4], got ", boxes2);
  check(boxes1.shape[0] == boxes2.shape[0], "box_iou: boxes1 and boxes2 must have the same leading sizes, got ", boxes1,
        " and ", boxes2);
  check(boxes1.dtype == boxes2.dtype && boxes1.device == boxes2.device,
        "box_iou: boxes1 and boxes2 must share dtype and device, got ", boxes1, " and ", boxes2);
}

bool is_matrix(View v, View boxes1, View boxes2) {
  return v.rank == 3 && v.shape[0] == boxes1.shape[0] && v.shape[1] == boxes1.shape[1] &&
         v.shape[2] == boxes2.shape[1] && v.device == boxes1.device &&
         v.dtype == (boxes1.dtype == DType::f64 ? DType::f64 : DType::f32);
}

bool is_like(View v, View boxes) {
  return !v || (v.rank == 3 && v.dtype == boxes.dtype && std::equal(v.shape, v.shape + 3, boxes.shape));
}

}  // namespace

void box_iou(View boxes1, View boxes2, View out, IouParams const& params, Context const& context) {
  check_boxes(boxes1, boxes2);
  check(is_matrix(out, boxes1, boxes2), "box_iou: out must be float32 (float64 for float64) [..., N, M], got ", out,
        " for ", boxes1, " and ", boxes2);
  LEYOLO_DISPATCH("box_iou", out.device, box_iou_cpu(boxes1, boxes2, out, params, context),
                  box_iou_cuda(boxes1, boxes2, out, params, context));
}

void box_iou_backward(View gradient, View boxes1, View boxes2, View gradient1, View gradient2, IouParams const& params,
                      Context const& context) {
  check_boxes(boxes1, boxes2);
  check(is_matrix(gradient, boxes1, boxes2), "box_iou: the gradient must be as the output, got ", gradient, " for ",
        boxes1, " and ", boxes2);
  check(is_like(gradient1, boxes1) && is_like(gradient2, boxes2), "box_iou: gradients must be as the boxes, got ",
        gradient1, " and ", gradient2);
  LEYOLO_DISPATCH("box_iou (gradient)", gradient.device,
                  box_iou_backward_cpu(gradient, boxes1, boxes2, gradient1, gradient2, params, context),
                  box_iou_backward_cuda(gradient, boxes1, boxes2, gradient1, gradient2, params, context));
}

void box_iou_cpu(View boxes1, View boxes2, View out, IouParams const& params, Context const& context) {
  int64_t const n = boxes1.shape[1], m = boxes2.shape[1];
  int64_t const down = pieces(n, kIouRows), across = pieces(m, kIouColumns);
  bool const past_caches = exceeds_caches(out.numel() * size_of(out.dtype));
  for_float(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    using A = accumulator_t<T>;
    parallel_for(context, 0, boxes1.shape[0] * across * down, 2, [&](int64_t begin, int64_t end) {
      IouBox<A> row[kIouRows];
      IouTile<A> tile;
      int64_t in_tile = -1;  // it serves one piece of boxes1 after the other
      for (int64_t t = begin; t < end; ++t) {
        int64_t const piece = t / down, batch = piece / across, i = t % down * kIouRows,
                      j = piece % across * kIouColumns;
        int const rows = int(std::min<int64_t>(kIouRows, n - i)), columns = int(std::min<int64_t>(kIouColumns, m - j));
        if (piece != in_tile) fill(tile, boxes2.as<T>() + 4 * (batch * m + j), columns, params);
        in_tile = piece;
        fill(row, boxes1.as<T>() + 4 * (batch * n + i), rows, params);
        pairs({row, &tile, rows, columns, m, params.kind, A(params.eps), out.as<A>() + (batch * n + i) * m + j, nullptr,
               nullptr, nullptr, past_caches});
      }
    });
  });
}

void box_iou_backward_cpu(View gradient, View boxes1, View boxes2, View gradient1, View gradient2,
                          IouParams const& params, Context const& context) {
  int64_t const batch = boxes1.shape[0], n = boxes1.shape[1], m = boxes2.shape[1];
  for_float(boxes1.dtype, "box_iou", [&](auto zero) {
    using T = decltype(zero);
    Backward<T> const work{boxes1.as<T>(), boxes2.as<T>(), gradient.as<accumulator_t<T>>(), n, m, params};
    if (gradient1) {
      int64_t const tasks = pieces(n, kIouRows);
      parallel_for(context, 0, batch * tasks, 1 + 16384 / (kIouRows * (m + 1)), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) work.rows(t / tasks, t % tasks * kIouRows, gradient1.as<T>());
      });
    }
    if (gradient2) {
      int64_t const width = 64, tasks = pieces(m, width);
      parallel_for(context, 0, batch * tasks, 1 + 16384 / (width * (n + 1)), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) work.columns(t / tasks, t % tasks * width, width, gradient2.as<T>());
      });
    }
  });
}

}  // namespace leyolo

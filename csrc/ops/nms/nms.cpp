#include "ops/nms/nms.h"

#include <algorithm>
#include <cmath>

#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/nms/nms_args.h"
#include "ops/nms/nms_math.h"

namespace leyolo {

LEYOLO_SIMD(long long nms_sweep(NmsArgs const&))

namespace {

struct Candidate {
  double score;
  int64_t label, index;
};

// NaN first, then descending, then the lower index: what torch.sort(descending=True, stable=True) gives.
bool higher(double a, double b) { return a > b || (a != a && b == b); }
bool before(Candidate const& a, Candidate const& b) {
  if (higher(a.score, b.score) || higher(b.score, a.score)) return higher(a.score, b.score);
  return a.index < b.index;
}
// Classes one after another, each in that order.
bool before_in_class(Candidate const& a, Candidate const& b) {
  return a.label != b.label ? a.label < b.label : before(a, b);
}

// One image's scratch memory: candidates, kept positions, planes of boxes and of kept boxes.
struct Scratch {
  Candidate* candidates;
  long long* kept;
  float* planes;

  static int64_t size(int64_t n) { return n * int64_t(sizeof(Candidate) + 8 + 10 * 4); }
  Scratch(char* memory, int64_t n)
      : candidates(reinterpret_cast<Candidate*>(memory)),
        kept(reinterpret_cast<long long*>(memory + n * int64_t(sizeof(Candidate)))),
        planes(reinterpret_cast<float*>(memory + n * int64_t(sizeof(Candidate) + 8))) {}
};

// Positions of the kept boxes among `count` candidates of one class.
template <class T>
int64_t sweep(T const* boxes, Candidate const* c, int64_t count, int64_t most, double threshold, Scratch const& s,
              int64_t n) {
  float* const p = s.planes;
  for (int64_t i = 0; i < count; ++i) {
    auto const box = load_box<float>(boxes + 4 * c[i].index);
    p[i] = box.x1, p[n + i] = box.y1, p[2 * n + i] = box.x2, p[3 * n + i] = box.y2, p[4 * n + i] = area(box);
  }
  float* const k = p + 5 * n;
  return LEYOLO_PICK(nms_sweep)({p, p + n, p + 2 * n, p + 3 * n, p + 4 * n, k, k + n, k + 2 * n, k + 3 * n, k + 4 * n,
                                 s.kept, count, most, nms_threshold(threshold)});
}

int64_t sweep(double const* boxes, Candidate const* c, int64_t count, int64_t most, double threshold, Scratch const& s,
              int64_t) {
  int64_t kept = 0;
  for (int64_t i = 0; i < count && kept < most; ++i) {
    auto const box = load_box<double>(boxes + 4 * c[i].index);
    bool dead = false;
    for (int64_t k = 0; k < kept && !dead; ++k)
      dead = suppresses(load_box<double>(boxes + 4 * c[s.kept[k]].index), box, threshold);
    if (!dead) s.kept[kept++] = i;
  }
  return kept;
}

template <class T>
int64_t one_image(T const* boxes, T const* scores, int64_t const* labels, int64_t count, int64_t n, int64_t max_det,
                  int64_t* indices, char* memory, Nms const& params) {
  Scratch const s(memory, n);
  int64_t candidates = 0;
  for (int64_t i = 0; i < count; ++i) {
    double const score = double(accumulator_t<T>(scores[i]));
    if (params.filter && !(score > params.score_threshold)) continue;
    s.candidates[candidates++] = {score, labels ? labels[i] : 0, i};
  }
  std::sort(s.candidates, s.candidates + candidates, labels ? before_in_class : before);
  // Class by class; the kept ones move to the front, where they are put in order of score in the end.
  int64_t kept = 0;
  for (int64_t first = 0, last; first < candidates; first = last) {
    for (last = first + 1; last < candidates && s.candidates[last].label == s.candidates[first].label;) ++last;
    int64_t const found = sweep(boxes, s.candidates + first, last - first, max_det, params.iou_threshold, s, n);
    for (int64_t k = 0; k < found; ++k) s.candidates[kept++] = s.candidates[first + s.kept[k]];
  }
  int64_t const result = std::min(kept, max_det);
  if (labels) std::partial_sort(s.candidates, s.candidates + result, s.candidates + kept, before);
  for (int64_t k = 0; k < result; ++k) indices[k] = s.candidates[k].index;
  std::fill(indices + result, indices + max_det, int64_t(-1));
  return result;
}

void nms_cpu(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
             Nms const& params, Context const& context) {
  int64_t const n = boxes.shape[1], max_det = indices.shape[1];
  for_float(boxes.dtype, "nms", [&](auto zero) {
    using T = decltype(zero);
    parallel_for(context, 0, boxes.shape[0], 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        int64_t const count = counts ? std::clamp<int64_t>(counts.as<int64_t>()[b], 0, n) : n;
        kept.as<int64_t>()[b] = one_image(
            boxes.as<T>() + b * n * 4, scores.as<T>() + b * n, labels ? labels.as<int64_t>() + b * n : nullptr, count,
            n, max_det, indices.as<int64_t>() + b * max_det, workspace.as<char>() + b * Scratch::size(n), params);
      }
    });
  });
}

}  // namespace

int64_t nms_workspace(View boxes) { return boxes.rank == 3 ? boxes.shape[0] * Scratch::size(boxes.shape[1]) : 0; }

void nms_padded(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
                Nms const& params, Context const& context) {
  check(boxes.rank == 3 && boxes.shape[2] == 4, "nms: boxes must be [B, N, 4], got ", boxes);
  int64_t const images = boxes.shape[0], n = boxes.shape[1];
  check(scores.rank == 2 && scores.shape[0] == images && scores.shape[1] == n, "nms: scores must be [", images, ", ", n,
        "], got ", scores);
  check(scores.dtype == boxes.dtype && scores.device == boxes.device,
        "nms: boxes and scores must share dtype and device, got ", boxes, " and ", scores);
  check(
      !labels || (labels.rank == 2 && labels.shape[0] == images && labels.shape[1] == n && labels.dtype == DType::i64),
      "nms: labels must be int64 [", images, ", ", n, "], got ", labels);
  check(!counts || (counts.rank == 1 && counts.shape[0] == images && counts.dtype == DType::i64),
        "nms: counts must be int64 [", images, "], got ", counts);
  check(indices.rank == 2 && indices.shape[0] == images && indices.dtype == DType::i64 && kept.rank == 1 &&
            kept.shape[0] == images && kept.dtype == DType::i64,
        "nms: indices must be int64 [B, max_det] and kept int64 [B], got ", indices, " and ", kept);
  check(params.iou_threshold == params.iou_threshold, "nms: iou_threshold must be a number, got NaN");
  check(workspace.numel() >= nms_workspace(boxes), "nms: the workspace is too small");
  LEYOLO_CPU_ONLY("nms", boxes.device,
                  nms_cpu(boxes, scores, labels, counts, indices, kept, workspace, params, context));
}

}  // namespace leyolo

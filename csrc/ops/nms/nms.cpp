#include "ops/nms/nms.h"

#include <algorithm>

#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/nms/nms_args.h"
#include "ops/nms/nms_math.h"

namespace leyolo {

LEYOLO_SIMD(bool nms_is_suppressed(NmsKept const&, NmsBox const&, float threshold))

namespace {

struct Ranked {
  uint64_t key;
  int64_t index;
};

// Stable radix sort by ascending key; bytes in which all keys agree cost nothing. Returns where the result lies: in
// `records` or in `scratch`.
Ranked* sort_by_key(Ranked* records, Ranked* scratch, int64_t count) {
  uint64_t differing = 0;
  for (int64_t i = 1; i < count; ++i) differing |= records[i].key ^ records[0].key;
  for (int shift = 0; shift < 64; shift += 8) {
    if (!(differing >> shift & 255)) continue;
    int64_t start[256] = {};
    for (int64_t i = 0; i < count; ++i) ++start[records[i].key >> shift & 255];
    int64_t sum = 0;
    for (int64_t& s : start) {
      int64_t const n = s;
      s = sum;
      sum += n;
    }
    for (int64_t i = 0; i < count; ++i) scratch[start[records[i].key >> shift & 255]++] = records[i];
    std::swap(records, scratch);
  }
  return records;
}

// The kept boxes of one label lie together: a part of the arrays with room for all boxes of that label.
struct Group {
  int64_t first, kept;
};

// One image's part of the workspace.
template <class A>
struct Scratch {
  Ranked *records, *other;
  int64_t* group_of;  // by index of the box; only with labels
  Group* groups;
  A* coordinates[5];  // x1, y1, x2, y2, area of the kept boxes

  static int64_t size(int64_t n, bool has_labels) {
    int64_t const groups = int64_t(sizeof(Group)) + (has_labels ? n * int64_t(sizeof(int64_t) + sizeof(Group)) : 0);
    return n * int64_t(2 * sizeof(Ranked)) + groups + (n * int64_t(5 * sizeof(A)) + 7) / 8 * 8;
  }
  Scratch(char* p, int64_t n, bool has_labels) {
    auto const take = [&](auto*& array, int64_t count) {
      array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(p);
      p += count * int64_t(sizeof *array);
    };
    take(records, n), take(other, n);
    take(group_of, has_labels ? n : 0);
    take(groups, has_labels ? n + 1 : 1);
    for (A*& c : coordinates) take(c, n);
  }
};

bool is_suppressed(Scratch<float> const& s, Group const& g, Box<float> const& box, float box_area, float threshold) {
  auto const& c = s.coordinates;
  return LEYOLO_PICK(nms_is_suppressed)(
      {c[0] + g.first, c[1] + g.first, c[2] + g.first, c[3] + g.first, c[4] + g.first, g.kept},
      {box.x1, box.y1, box.x2, box.y2, box_area}, threshold);
}

bool is_suppressed(Scratch<double> const& s, Group const& g, Box<double> const& box, double, double threshold) {
  auto const& c = s.coordinates;
  for (int64_t i = g.first; i < g.first + g.kept; ++i)
    if (suppresses(Box<double>{c[0][i], c[1][i], c[2][i], c[3][i]}, box, threshold)) return true;
  return false;
}

// Numbers the labels that occur among the records and gives each group its room.
template <class A>
void make_groups(Scratch<A>& s, int64_t const* labels, int64_t count) {
  for (int64_t i = 0; i < count; ++i) s.records[i].key = uint64_t(labels[s.records[i].index]);
  Ranked const* sorted = sort_by_key(s.records, s.other, count);
  int64_t group = -1;
  for (int64_t i = 0; i < count; ++i) {
    if (i == 0 || sorted[i].key != sorted[i - 1].key) s.groups[++group] = {i, 0};
    s.group_of[sorted[i].index] = group;
  }
}

template <class A, class T>
int64_t nms_image(T const* boxes, T const* scores, int64_t const* labels, int64_t n, int64_t* indices, int64_t max_det,
                  Scratch<A> s, Nms const& params) {
  auto const collect = [&] {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i)
      if (takes_part(A(scores[i]), params.score_threshold)) s.records[count++] = {score_key(A(scores[i])), i};
    return count;
  };
  int64_t const count = collect();
  s.groups[0] = {0, 0};
  if (labels && max_det > 0) {
    make_groups(s, labels, count);
    collect();
  }
  Ranked const* const order = sort_by_key(s.records, s.other, count);
  A const threshold = nms_threshold(params.iou_threshold, A());
  int64_t found = 0;
  for (int64_t i = 0; i < count && found < max_det; ++i) {
    int64_t const index = order[i].index;
    Group& group = s.groups[labels ? s.group_of[index] : 0];
    Box<A> const box = load_box<A>(boxes + 4 * index);
    A const box_area = area(box);
    if (is_suppressed(s, group, box, box_area, threshold)) continue;
    A const values[] = {box.x1, box.y1, box.x2, box.y2, box_area};
    for (int c = 0; c < 5; ++c) s.coordinates[c][group.first + group.kept] = values[c];
    ++group.kept;
    indices[found++] = index;
  }
  std::fill(indices + found, indices + max_det, int64_t(-1));
  return found;
}

}  // namespace

int64_t nms_workspace(View boxes, View labels) {
  check(boxes.rank == 3, "nms: boxes must be [B, N, 4], got ", boxes);
  int64_t const n = boxes.shape[1];
  bool const wide = boxes.dtype == DType::f64;
  return boxes.shape[0] * (wide ? Scratch<double>::size(n, bool(labels)) : Scratch<float>::size(n, bool(labels)));
}

void nms(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace, Nms const& params,
         Context const& context) {
  check(boxes.rank == 3 && boxes.shape[2] == 4, "nms: boxes must be [B, N, 4], got ", boxes);
  int64_t const b = boxes.shape[0], n = boxes.shape[1];
  check(scores.rank == 2 && scores.shape[0] == b && scores.shape[1] == n, "nms: scores must be [B, N] = [", b, ", ", n,
        "], got ", scores);
  check(scores.dtype == boxes.dtype, "nms: boxes and scores must share a dtype, got ", boxes, " and ", scores);
  check(!labels || (labels.rank == 2 && labels.shape[0] == b && labels.shape[1] == n && labels.dtype == DType::i64),
        "nms: labels must be int64 [B, N] = [", b, ", ", n, "], got ", labels);
  check(!counts || (counts.rank == 1 && counts.shape[0] == b && counts.dtype == DType::i64),
        "nms: counts must be int64 [B] = [", b, "], got ", counts);
  check(scores.device == boxes.device && (!labels || labels.device == boxes.device) &&
            (!counts || counts.device == boxes.device),
        "nms: all arguments must be on one device, got boxes ", boxes, ", scores ", scores, ", labels ", labels,
        ", counts ", counts);
  check(indices.rank == 2 && indices.shape[0] == b && indices.dtype == DType::i64,
        "nms: indices must be int64 [B, max_det], got ", indices);
  check(kept.rank == 1 && kept.shape[0] == b && kept.dtype == DType::i64, "nms: kept must be int64 [B], got ", kept);
  check(workspace.numel() >= nms_workspace(boxes, labels), "nms: workspace must hold ", nms_workspace(boxes, labels),
        " bytes, got ", workspace);
  if (b == 0) return;
  LEYOLO_DISPATCH("nms", boxes.device,
                  nms_cpu(boxes, scores, labels, counts, indices, kept, workspace, params, context),
                  nms_cuda(boxes, scores, labels, counts, indices, kept, workspace, params, context));
}

void nms_cpu(View boxes, View scores, View labels, View counts, View indices, View kept, View workspace,
             Nms const& params, Context const& context) {
  int64_t const n = boxes.shape[1], max_det = indices.shape[1];
  int64_t const bytes = nms_workspace(boxes, labels) / boxes.shape[0];
  for_float(boxes.dtype, "nms", [&](auto zero) {
    using T = decltype(zero);
    using A = accumulator_t<T>;
    parallel_for(context, 0, boxes.shape[0], 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        int64_t const count = counts ? std::clamp<int64_t>(counts.as<int64_t>()[b], 0, n) : n;
        kept.as<int64_t>()[b] =
            nms_image<A>(boxes.as<T>() + 4 * n * b, scores.as<T>() + n * b,
                         labels ? labels.as<int64_t>() + n * b : nullptr, count, indices.as<int64_t>() + max_det * b,
                         max_det, Scratch<A>(workspace.as<char>() + bytes * b, n, bool(labels)), params);
      }
    });
  });
}

}  // namespace leyolo

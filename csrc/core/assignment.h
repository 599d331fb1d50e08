// What the label assigners share: their inputs and outputs, checks, rows of boxes, scratch memory and pieces of work.
#pragma once

#include <algorithm>

#include "core/assignment_math.h"
#include "core/check.h"
#include "core/context.h"
#include "core/isa.h"
#include "core/select_args.h"

namespace leyolo {

LEYOLO_SIMD(long long select_smallest(SelectArgs const&))

// Rows at or past the image's count do not matter and may hold anything, NaN included. Labels and counts out of range
// are an error on the CPU; on the GPU they cannot be reported without a sync: a count is clamped, and a ground truth
// whose label is none of the classes takes no part (its dynamic_k is 0).
struct GroundTruth {
  View boxes;   // [B, G, 4] f32, f16, bf16
  View labels;  // [B, G] i64 or i32, 0 <= label < C
  View counts;  // [B] i64 or i32, 0 <= count <= G
};

struct Assigned {
  View gt_index;   // [B, A] i64, -1 on background
  View iou;        // [B, A] f32, 0 on background
  View score;      // [B, A] f32, 0 on background
  View num_fg;     // [B] i64
  View dynamic_k;  // [B, G] i64
};

// `classes` < 0: labels are not looked at.
void check_ground_truth(char const* op, GroundTruth const& gt, int64_t images, int64_t classes);
void check_centers(char const* op, View centers, int64_t anchors);
void check_strides(char const* op, View strides, int64_t anchors);
void check_assigned(char const* op, Assigned const& out, int64_t images, int64_t anchors, int64_t targets);
void check_floats(char const* op, char const* name, View v);  // float32, float16 or bfloat16
void check_workspace(char const* op, View workspace, int64_t needed);
bool is_xyxy(char const* op, std::string const& fmt);

float float_at(View v, int64_t i);
int64_t int_at(View v, int64_t i);
// [count] values of v from `begin` on as float32: v's own memory where it is float32, else converted into `buffer`.
float const* floats_at(View v, int64_t begin, int64_t count, float* buffer);

// boxes[first, first + count) of a [.., 4] array into rows of BoxField, the rest of the last vector zero.
void fill_boxes(View boxes, int64_t first, int64_t count, bool xyxy, Rows rows);
// Box `source` into column `i` of the rows.
void fill_box(View boxes, int64_t source, bool xyxy, Rows rows, int64_t i);

inline AreaBox<float> box_at(Rows rows, int64_t i) {
  return {rows[kX1][i], rows[kY1][i], rows[kX2][i], rows[kY2][i], rows[kArea][i]};
}

constexpr int64_t kPad = 16;  // floats of the widest vector: rows are padded to it
constexpr int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// Hands out pieces of one block; with no block it only measures.
class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* const at = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
    return at;
  }
  Rows rows(int fields, int64_t length) { return {take<float>(fields * padded(length)), padded(length)}; }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// f(begin, end, slot) over [0, count) in pieces; no two calls that run at once share a slot < kSlots.
constexpr int64_t kSlots = 64;
template <class F>
void for_slots(Context const& context, int64_t count, F&& f) {
  int64_t const pieces = std::min(count, kSlots);
  parallel_for(context, 0, pieces, 1,
               [&](int64_t begin, int64_t end) { f(count * begin / pieces, count * end / pieces, begin); });
}

// The image of item `i`, where image b owns the items [offsets[b], offsets[b + 1]).
inline int64_t image_of(int64_t const* offsets, int64_t images, int64_t i) {
  return std::upper_bound(offsets, offsets + images + 1, i) - offsets - 1;
}

constexpr int kNobody = -1, kSeveral = -2;  // owner of an item that no, or more than one, ground truth marked

// The items (anchors or candidates) that each ground truth marks, and who owns which in the end.
struct Marks {
  Marks() = default;
  Marks(Scratch& memory, int64_t images, int64_t targets, int64_t items, int64_t most);

  int* picks_of(int64_t b, int64_t g) const { return picks + (b * G + g) * topk; }
  int& found_by(int64_t b, int64_t g) const { return found[b * G + g]; }
  int* owner_of(int64_t b) const { return owner + b * A; }

  // Fills `owner`: item_count(b) items and target_count(b) ground truths in image b; an item that several marked goes
  // to winner(b, item, slot).
  template <class Items, class Targets, class Winner>
  void settle(Context const& context, Items&& item_count, Targets&& target_count, Winner&& winner) const {
    parallel_for(context, 0, B, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) collect(b, item_count(b), target_count(b));
    });
    contested_offsets[0] = 0;
    for (int64_t b = 0; b < B; ++b) contested_offsets[b + 1] += contested_offsets[b];
    for_slots(context, contested_offsets[B], [&](int64_t begin, int64_t end, int64_t slot) {
      for (int64_t t = begin; t < end; ++t) {
        int64_t const b = image_of(contested_offsets, B, t);
        int64_t const item = contested[b * A + t - contested_offsets[b]];
        owner[b * A + item] = int(winner(b, item, slot));
      }
    });
  }

  int64_t B = 0, G = 0, A = 0, topk = 0;
  int *picks = nullptr, *found = nullptr;  // [B, G, topk], [B, G]
  int* owner = nullptr;                    // [B, A]

 private:
  void collect(int64_t b, int64_t items, int64_t targets) const;

  int* contested = nullptr;              // [B, A]
  int64_t* contested_offsets = nullptr;  // [B + 1]
};

// Background everywhere, zeros.
void clear(Assigned const& out, Context const& context);

// Counts of ground truths before each image: offsets [B + 1].
void fill_offsets(View counts, int64_t* offsets);

}  // namespace leyolo

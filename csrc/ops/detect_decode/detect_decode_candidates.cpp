#include "ops/detect_decode/detect_decode_candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cpu.h"
#include "ops/detect_decode/detect_decode_args.h"
#include "ops/detect_decode/detect_decode_math.h"

namespace leyolo {

LEYOLO_SIMD(void detect_scan(DetectScanArgs const&))
LEYOLO_SIMD(void dfl_distances(float const* logits, int bins, float* distances))

namespace {

constexpr int kRadix = 2048;

int64_t chunks_of(int64_t anchors) { return (anchors + kDetectChunk - 1) / kDetectChunk; }

// The smallest float32 above `threshold`: "x >= above(threshold)" is "x > threshold".
float above(float threshold) { return std::nextafter(threshold, std::numeric_limits<float>::infinity()); }

// Least value that passes; for p <= 0 minus infinity, for p >= 1 NaN.
float logit_limit(double p) {
  if (p <= 0) return -std::numeric_limits<float>::infinity();
  if (p >= 1) return std::numeric_limits<float>::quiet_NaN();
  return above(float(std::log(p) - std::log1p(-p)));
}
float score_limit(double p) {
  if (p <= 0) return -std::numeric_limits<float>::infinity();
  if (p >= 1) return std::numeric_limits<float>::quiet_NaN();
  float const rounded = float(p);
  return double(rounded) > p ? rounded : above(rounded);
}

struct Chunk {
  int64_t count;   // candidates, then those that are kept
  int64_t ties;    // how many candidates exactly at the cut are kept
  int64_t offset;  // of the first kept one in its image
};

struct Image {
  int64_t total;
  uint32_t cut;  // only candidates with this key or a greater one are kept; 0: all
};

struct Scratch {
  Chunk* chunks;       // [B, chunks]
  Image* images;       // [B]
  int64_t* histogram;  // [B, kRadix]
  uint8_t* hit;        // [B, A]
};

// Bytes; with `memory`, also where everything lies.
int64_t layout(int64_t batch, int64_t anchors, void* memory, Scratch* s) {
  int64_t size = 0;
  auto const take = [&](int64_t bytes) {
    char* const at = memory ? static_cast<char*>(memory) + size : nullptr;
    size += (bytes + 7) / 8 * 8;
    return at;
  };
  Scratch all;
  all.chunks = reinterpret_cast<Chunk*>(take(batch * chunks_of(anchors) * int64_t(sizeof(Chunk))));
  all.images = reinterpret_cast<Image*>(take(batch * int64_t(sizeof(Image))));
  all.histogram = reinterpret_cast<int64_t*>(take(batch * kRadix * 8));
  all.hit = reinterpret_cast<uint8_t*>(take(batch * anchors));
  if (s) *s = all;
  return size;
}

struct Classes {
  DetectDecode params;
  DetectRows rows;
  int first_class, classes;
  DetectLimits limits;

  // f(class, rank) for every candidate of an anchor, by ascending class.
  template <class F>
  void each(float const* row, F&& f) const {
    float const* const logit = row + first_class;
    bool const yolox = params.head == BoxHead::yolox;
    float const objectness = yolox ? sigmoid_exact(logit[-1]) : 1.0f;
    auto const offer = [&](int c) {
      float const rank = yolox ? objectness * sigmoid_exact(logit[c]) : logit[c];
      if (rank >= limits.rank) f(c, rank);
    };
    if (params.multi_label) {
      for (int c = 0; c < classes; ++c)
        if (logit[c] >= limits.logit) offer(c);
    } else {
      int best = -1;
      for (int c = 0; c < classes; ++c)
        if (logit[c] >= limits.logit && (best < 0 || logit[c] > logit[best])) best = c;
      if (best >= 0) offer(best);
    }
  }

  float score(float rank) const { return params.head == BoxHead::dfl ? sigmoid_exact(rank) : rank; }
};

// f(anchor, class, rank) for every candidate of one chunk.
template <class F>
void each_in_chunk(Classes const& d, Scratch const& s, int64_t image, int64_t chunk, F&& f) {
  int64_t const end = std::min(d.rows.anchors, (chunk + 1) * kDetectChunk);
  for (int64_t a = chunk * kDetectChunk; a < end; ++a)
    if (s.hit[image * d.rows.anchors + a]) d.each(d.rows.row(image, a), [&](int c, float rank) { f(a, c, rank); });
}

// Too many candidates: finds the key of the last one to keep, digit by digit, and how many at that very key stay.
void select(Classes const& d, Scratch const& s, int64_t image, int64_t keep) {
  int64_t const count = chunks_of(d.rows.anchors);
  Chunk* const chunks = s.chunks + image * count;
  int64_t* const histogram = s.histogram + image * kRadix;
  uint32_t prefix = 0, known = 0;  // the cut agrees with prefix in the bits `known`
  for (int shift : {21, 10, 0}) {
    uint32_t const digits = shift == 0 ? 0x3ffu : 0x7ffu;
    std::fill_n(histogram, kRadix, 0);
    for (int64_t i = 0; i < count; ++i)
      if (chunks[i].count)
        each_in_chunk(d, s, image, i, [&](int64_t, int, float rank) {
          uint32_t const key = order_key(rank);
          if ((key & known) == prefix) ++histogram[key >> shift & digits];
        });
    uint32_t digit = digits;
    while (histogram[digit] < keep) keep -= histogram[digit--];
    prefix |= digit << shift;
    known |= digits << shift;
  }
  for (int64_t i = 0; i < count; ++i) {
    Chunk& chunk = chunks[i];
    if (!chunk.count) continue;
    int64_t greater = 0, equal = 0;
    each_in_chunk(d, s, image, i, [&](int64_t, int, float rank) {
      uint32_t const key = order_key(rank);
      greater += key > prefix, equal += key == prefix;
    });
    chunk.ties = std::min(equal, keep);
    keep -= chunk.ties;
    chunk.count = greater + chunk.ties;
  }
  s.images[image].cut = prefix;
}

// Scores, labels and boxes of the candidates that are kept of one chunk.
void write_chunk(Classes const& d, Scratch const& s, BoxSource const& source, DetectOutputs const& out, int64_t slot,
                 int64_t image, int64_t index) {
  int64_t const capacity = out.boxes.shape[1];
  Chunk const chunk = s.chunks[image * chunks_of(d.rows.anchors) + index];
  uint32_t const cut = s.images[image].cut;
  int64_t const first = image * capacity + chunk.offset;
  float* const scores = out.scores.as<float>() + first;
  int64_t* const labels = out.labels.as<int64_t>() + first;
  int64_t anchors[kDetectChunk] = {}, classes[kDetectChunk];  // and how many candidates each of them has
  int64_t count = 0, at = 0, ties = chunk.ties;
  each_in_chunk(d, s, image, index, [&](int64_t anchor, int c, float rank) {
    if (cut) {
      uint32_t const key = order_key(rank);
      if (key < cut || (key == cut && ties-- <= 0)) return;
    }
    if (count == 0 || anchors[count - 1] != anchor) anchors[count] = anchor, classes[count++] = 0;
    ++classes[count - 1];
    scores[at] = d.score(rank);
    labels[at++] = c;
  });
  Box<float> boxes[kDetectChunk];
  source.boxes(slot, image, anchors, count, boxes);
  float* to = out.boxes.as<float>() + 4 * first;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t n = 0; n < classes[i]; ++n, to += 4)
      to[0] = boxes[i].x1, to[1] = boxes[i].y1, to[2] = boxes[i].x2, to[3] = boxes[i].y2;
}

bool is(View v, DType dtype, std::initializer_list<int64_t> shape) {
  return v.dtype == dtype && v.rank == int(shape.size()) && std::equal(shape.begin(), shape.end(), v.shape);
}

}  // namespace

Box<float> dfl_box(float const* logits, int64_t reg_max, float const* center, float stride) {
  float d[4];
  LEYOLO_PICK(dfl_distances)(logits, int(reg_max), d);
  return box_around(d, center, stride);
}

DetectLimits detect_limits(DetectDecode const& params) {
  double const p = params.score_threshold;
  if (params.head == BoxHead::dfl) return {logit_limit(p), logit_limit(p)};
  // Both factors must exceed p alone; the margin covers the rounding of the sigmoids.
  return {logit_limit(p < 1 ? p * (1 - 1e-5) : p), score_limit(p)};
}

int64_t detect_slots(int64_t batch, int64_t anchors) { return batch * chunks_of(anchors); }

int64_t detect_candidates_capacity(char const* op, int64_t anchors, int64_t classes, DetectDecode const& p) {
  check(p.max_candidates > 0, op, ": max_candidates must be positive, got ", p.max_candidates);
  check(!std::isnan(p.score_threshold), op, ": score_threshold must be a number, got NaN");
  return std::min(p.max_candidates, anchors * (p.multi_label ? classes : 1));
}

int64_t detect_candidates_workspace(int64_t batch, int64_t anchors) { return layout(batch, anchors, nullptr, nullptr); }

void check_detect(char const* op, int64_t batch, int64_t anchors, int64_t capacity, View centers, View strides,
                  DetectOutputs const& out, Device device) {
  check(is(centers, DType::f32, {anchors, 2}), op, ": centers must be float32 [A, 2] with the A = ", anchors,
        " anchors of logits, got ", centers);
  check(is(strides, DType::f32, {anchors}), op, ": strides must be float32 [A] with the A = ", anchors,
        " anchors of logits, got ", strides);
  check(is(out.boxes, DType::f32, {batch, capacity, 4}) && is(out.scores, DType::f32, {batch, capacity}) &&
            is(out.labels, DType::i64, {batch, capacity}) && is(out.counts, DType::i64, {batch}),
        op, ": boxes, scores, labels and counts must be float32 [B, K, 4], float32 [B, K], int64 [B, K] and int64 [B] ",
        "with K = ", capacity, ", got ", out.boxes, ", ", out.scores, ", ", out.labels, " and ", out.counts);
  for (View const& v : {centers, strides, out.boxes, out.scores, out.labels, out.counts})
    check(v.device == device, op, ": everything must be on the device of logits, ", device, ", got ", v);
}

void detect_candidates(DetectRows rows, int64_t first_class, BoxSource const& source, DetectOutputs const& out,
                       void* workspace, DetectDecode const& params, Context const& context) {
  Scratch s;
  layout(rows.batch, rows.anchors, workspace, &s);
  int64_t const batch = rows.batch, anchors = rows.anchors, capacity = out.boxes.shape[1];
  bool const yolox = params.head == BoxHead::yolox;
  Classes const d{params, rows, int(first_class), int(rows.channels - first_class), detect_limits(params)};
  int64_t const per_image = chunks_of(anchors);

  auto* const scan = LEYOLO_PICK(detect_scan);
  parallel_for(context, 0, batch * per_image, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t const image = i / per_image, chunk = i % per_image, anchor = chunk * kDetectChunk;
      scan({rows.row(image, anchor), std::min(kDetectChunk, anchors - anchor), rows.pitch, d.first_class, d.classes,
            yolox ? d.first_class - 1 : -1, d.limits.logit, s.hit + image * anchors + anchor});
      s.chunks[i] = {};
      each_in_chunk(d, s, image, chunk, [&](int64_t, int, float) { ++s.chunks[i].count; });
    }
  });
  parallel_for(context, 0, batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      Chunk* const chunks = s.chunks + image * per_image;
      s.images[image] = {};
      for (int64_t i = 0; i < per_image; ++i) s.images[image].total += chunks[i].count;
      if (s.images[image].total > capacity) select(d, s, image, capacity);
      int64_t offset = 0;
      for (int64_t i = 0; i < per_image; ++i) chunks[i].offset = offset, offset += chunks[i].count;
      out.counts.as<int64_t>()[image] = offset;
    }
  });
  parallel_for(context, 0, batch * per_image, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (s.chunks[i].count) write_chunk(d, s, source, out, begin, i / per_image, i % per_image);
  });
}

}  // namespace leyolo

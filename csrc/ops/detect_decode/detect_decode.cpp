#include "ops/detect_decode/detect_decode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/box.h"
#include "core/convert.h"
#include "core/cpu.h"
#include "core/dispatch.h"
#include "ops/detect_decode/detect_decode_args.h"
#include "ops/detect_decode/detect_decode_math.h"

namespace leyolo {

LEYOLO_SIMD(void detect_scan(DetectScanArgs const&))
LEYOLO_SIMD(void dfl_distances(float const* logits, int bins, float* distances))

namespace {

constexpr int64_t kChunk = 128;     // anchors that are scanned, counted and written together
constexpr int64_t kMaxBins = 1024;  // of a side
constexpr int kRadix = 2048;

char const* name(DetectDecode const& p) { return p.head == BoxHead::dfl ? "detect_decode" : "yolox_decode"; }
int64_t box_channels(DetectDecode const& p) { return p.head == BoxHead::dfl ? 4 * p.reg_max : 5; }
int64_t chunks_of(int64_t anchors) { return (anchors + kChunk - 1) / kChunk; }

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
  float* logits;       // float32 copy of half logits
  uint8_t* hit;        // [B, A]
};

// Bytes; with `memory`, also where everything lies.
int64_t layout(View logits, void* memory, Scratch* s) {
  int64_t const batch = logits.shape[0], anchors = logits.shape[1];
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
  all.logits = reinterpret_cast<float*>(take(logits.dtype == DType::f32 ? 0 : 4 * logits.numel()));
  all.hit = reinterpret_cast<uint8_t*>(take(batch * anchors));
  if (s) *s = all;
  return size;
}

struct Decoder {
  DetectDecode params;
  float const *logits, *centers, *strides;
  int64_t anchors, pitch;
  int first_class, classes;
  float scan_limit;  // no candidate has a class (or objectness) logit below
  float limit;       // of the logit (dfl) or the score (yolox)

  // f(class, rank) for every candidate of an anchor, by ascending class.
  template <class F>
  void each(float const* row, F&& f) const {
    float const* const logit = row + first_class;
    bool const yolox = params.head == BoxHead::yolox;
    float const objectness = yolox ? sigmoid_exact(row[4]) : 1.0f;
    auto const offer = [&](int c) {
      float const rank = yolox ? objectness * sigmoid_exact(logit[c]) : logit[c];
      if (rank >= limit) f(c, rank);
    };
    if (params.multi_label) {
      for (int c = 0; c < classes; ++c)
        if (logit[c] >= scan_limit) offer(c);
    } else {
      int best = -1;
      for (int c = 0; c < classes; ++c)
        if (logit[c] >= scan_limit && (best < 0 || logit[c] > logit[best])) best = c;
      if (best >= 0) offer(best);
    }
  }

  Box<float> box(float const* row, int64_t anchor) const {
    float const x = centers[2 * anchor], y = centers[2 * anchor + 1], stride = strides[anchor];
    if (params.head == BoxHead::dfl) {
      float d[4];
      LEYOLO_PICK(dfl_distances)(row, int(params.reg_max), d);
      return {x - d[0] * stride, y - d[1] * stride, x + d[2] * stride, y + d[3] * stride};
    }
    float const cx = row[0] * stride + (x - 0.5f * stride), cy = row[1] * stride + (y - 0.5f * stride);
    float const w = exp_exact(row[2]) * stride, h = exp_exact(row[3]) * stride;
    return {cx - 0.5f * w, cy - 0.5f * h, cx + 0.5f * w, cy + 0.5f * h};
  }

  float score(float rank) const { return params.head == BoxHead::dfl ? sigmoid_exact(rank) : rank; }

  float const* row(int64_t image, int64_t anchor) const { return logits + (image * anchors + anchor) * pitch; }
};

// f(anchor, class, rank) for every candidate of one chunk.
template <class F>
void each_in_chunk(Decoder const& d, Scratch const& s, int64_t image, int64_t chunk, F&& f) {
  int64_t const end = std::min(d.anchors, (chunk + 1) * kChunk);
  for (int64_t a = chunk * kChunk; a < end; ++a)
    if (s.hit[image * d.anchors + a]) d.each(d.row(image, a), [&](int c, float rank) { f(a, c, rank); });
}

// Too many candidates: finds the key of the last one to keep, digit by digit, and how many at that very key stay.
void select(Decoder const& d, Scratch const& s, int64_t image, int64_t keep) {
  int64_t const count = chunks_of(d.anchors);
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

void detect_decode_cpu(View logits, View centers, View strides, View boxes, View scores, View labels, View counts,
                       View workspace, DetectDecode const& params, Context const& context) {
  Scratch s;
  layout(logits, workspace.data, &s);
  int64_t const batch = logits.shape[0], anchors = logits.shape[1], capacity = boxes.shape[1];
  float const* from = logits.as<float>();
  if (logits.dtype != DType::f32)
    to_float(logits.data, logits.dtype, s.logits, logits.numel(), context), from = s.logits;
  bool const yolox = params.head == BoxHead::yolox;
  double const p = params.score_threshold;
  int64_t const first = box_channels(params);
  // yolox: both factors must exceed p alone; the margin covers the rounding of the sigmoids.
  Decoder const d{params,
                  from,
                  centers.as<float>(),
                  strides.as<float>(),
                  anchors,
                  logits.shape[2],
                  int(first),
                  int(logits.shape[2] - first),
                  logit_limit(yolox && p < 1 ? p * (1 - 1e-5) : p),
                  yolox ? score_limit(p) : logit_limit(p)};
  int64_t const per_image = chunks_of(anchors);

  auto* const scan = LEYOLO_PICK(detect_scan);
  parallel_for(context, 0, batch * per_image, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t const image = i / per_image, chunk = i % per_image, anchor = chunk * kChunk;
      scan({d.row(image, anchor), std::min(kChunk, anchors - anchor), d.pitch, d.first_class, d.classes, yolox ? 4 : -1,
            d.scan_limit, s.hit + image * anchors + anchor});
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
      counts.as<int64_t>()[image] = offset;
    }
  });
  parallel_for(context, 0, batch * per_image, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!s.chunks[i].count) continue;
      int64_t const image = i / per_image;
      uint32_t const cut = s.images[image].cut;
      int64_t ties = s.chunks[i].ties, at = image * capacity + s.chunks[i].offset, decoded = -1;
      Box<float> box{};
      each_in_chunk(d, s, image, i % per_image, [&](int64_t anchor, int c, float rank) {
        if (cut) {
          uint32_t const key = order_key(rank);
          if (key < cut || (key == cut && ties-- <= 0)) return;
        }
        if (decoded != anchor) box = d.box(d.row(image, anchor), anchor), decoded = anchor;
        float* const to = boxes.as<float>() + 4 * at;
        to[0] = box.x1, to[1] = box.y1, to[2] = box.x2, to[3] = box.y2;
        scores.as<float>()[at] = d.score(rank);
        labels.as<int64_t>()[at] = c;
        ++at;
      });
    }
  });
}

bool is(View v, DType dtype, std::initializer_list<int64_t> shape) {
  return v.dtype == dtype && v.rank == int(shape.size()) && std::equal(shape.begin(), shape.end(), v.shape);
}

}  // namespace

int64_t detect_decode_capacity(View logits, DetectDecode const& p) {
  char const* const op = name(p);
  check(p.head == BoxHead::yolox || (p.reg_max > 0 && p.reg_max <= kMaxBins), op, ": reg_max must be 1 to ", kMaxBins,
        ", got ", p.reg_max);
  check(logits.rank == 3 && logits.shape[2] > box_channels(p) && logits.shape[2] <= std::numeric_limits<int>::max(), op,
        ": logits must be [B, A, ", box_channels(p), " + C] with C >= 1 classes, got ", logits);
  check(logits.dtype == DType::f32 || logits.dtype == DType::f16 || logits.dtype == DType::bf16, op,
        ": logits must be float32, float16 or bfloat16, got ", logits);
  check(p.max_candidates > 0, op, ": max_candidates must be positive, got ", p.max_candidates);
  check(!std::isnan(p.score_threshold), op, ": score_threshold must be a number, got NaN");
  int64_t const pairs = logits.shape[1] * (p.multi_label ? logits.shape[2] - box_channels(p) : 1);
  return std::min(p.max_candidates, pairs);
}

int64_t detect_decode_workspace(View logits, DetectDecode const& params) {
  detect_decode_capacity(logits, params);
  return layout(logits, nullptr, nullptr);
}

void detect_decode(View logits, View centers, View strides, View boxes, View scores, View labels, View counts,
                   View workspace, DetectDecode const& params, Context const& context) {
  char const* const op = name(params);
  int64_t const capacity = detect_decode_capacity(logits, params), batch = logits.shape[0], anchors = logits.shape[1];
  check(is(centers, DType::f32, {anchors, 2}), op, ": centers must be float32 [A, 2] with the A = ", anchors,
        " anchors of logits, got ", centers);
  check(is(strides, DType::f32, {anchors}), op, ": strides must be float32 [A] with the A = ", anchors,
        " anchors of logits, got ", strides);
  check(is(boxes, DType::f32, {batch, capacity, 4}) && is(scores, DType::f32, {batch, capacity}) &&
            is(labels, DType::i64, {batch, capacity}) && is(counts, DType::i64, {batch}),
        op, ": boxes, scores, labels and counts must be float32 [B, K, 4], float32 [B, K], int64 [B, K] and int64 [B] ",
        "with K = ", capacity, ", got ", boxes, ", ", scores, ", ", labels, " and ", counts);
  for (View const& v : {centers, strides, boxes, scores, labels, counts})
    check(v.device == logits.device, op, ": everything must be on the device of logits ", logits, ", got ", v);
  check(workspace.numel() * size_of(workspace.dtype) >= detect_decode_workspace(logits, params), op,
        ": the workspace is too small");
  LEYOLO_CPU_ONLY(
      "detect_decode", logits.device,
      detect_decode_cpu(logits, centers, strides, boxes, scores, labels, counts, workspace, params, context));
}

}  // namespace leyolo

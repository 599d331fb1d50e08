// The workspace of the CUDA twin.
#pragma once

#include "ops/detect_decode/detect_decode_candidates.h"

namespace leyolo {

// Per chunk of kDetectChunk anchors, per image and per anchor.
struct DetectMemory {
  int64_t *counts, *ties, *offsets;  // candidates; how many exactly at the cut stay; where the first one goes
  uint32_t* cut;                     // only candidates with this key or a greater one stay; 0: all
  int32_t *candidates, *best;        // of an anchor: how many; the class of the only one without multi_label
  float* rank;                       // its logit (dfl) or score (yolox)
};

inline int64_t detect_chunks(int64_t anchors) { return (anchors + kDetectChunk - 1) / kDetectChunk; }

inline int64_t detect_cuda_workspace(int64_t batch, int64_t anchors) {
  return batch * (24 * detect_chunks(anchors) + 4 + 12 * anchors);
}

inline DetectMemory detect_memory(int64_t batch, int64_t anchors, void* memory) {
  int64_t const chunks = batch * detect_chunks(anchors);
  DetectMemory m;
  m.counts = static_cast<int64_t*>(memory), m.ties = m.counts + chunks, m.offsets = m.ties + chunks;
  m.cut = reinterpret_cast<uint32_t*>(m.offsets + chunks);
  m.candidates = reinterpret_cast<int32_t*>(m.cut + batch), m.best = m.candidates + batch * anchors;
  m.rank = reinterpret_cast<float*>(m.best + batch * anchors);
  return m;
}

}  // namespace leyolo

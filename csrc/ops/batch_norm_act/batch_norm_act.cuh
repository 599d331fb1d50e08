// How the CUDA kernels of batch_norm_act walk over a map. Channels last: a thread owns two neighbouring channels (one
// where they do not pair, and in float64) and walks over pixels; the threads of a warp read whole lines. The threads
// that share channels, and then the blocks, are merged in a fixed order: the same bits in every run.
#pragma once

#include <algorithm>

#include "core/activation.cuh"
#include "core/channels.cuh"
#include "ops/batch_norm_act/batch_norm_act.h"

namespace leyolo {

namespace {

constexpr int kMostBlocks = 8 * 132;  // one full wave of an H100
constexpr int kAtOnce = 4;            // loads of a thread that are under way together
constexpr int kSlices = kThreads / 32;

struct Plan {
  int64_t rows;
  int channels, width, vectors, lanes, groups, side, chunks;

  Plan(View x, int channel_width) : channels(int(x.shape[x.rank - 1])), width(channel_width) {
    rows = channels ? x.numel() / channels : 0;
    vectors = channels / width;
    for (lanes = 32; lanes > 4 && vectors % lanes; lanes /= 2) continue;
    groups = std::max(1, (vectors + lanes - 1) / lanes);
    side = kThreads / lanes;
    chunks = int(std::clamp<int64_t>(rows / (side * kAtOnce), 1, std::max(1, kMostBlocks / groups)));
  }
  unsigned grid() const { return unsigned(groups * chunks); }
};

// Where a thread stands.
struct Place {
  int chunk, lane, beside, channel;
  int64_t first, step;
  bool used;

  __device__ explicit Place(Plan const& p) {
    int const group = int(blockIdx.x) % p.groups;
    chunk = int(blockIdx.x) / p.groups;
    lane = int(threadIdx.x) & (p.lanes - 1), beside = int(threadIdx.x) / p.lanes;
    int const vector = group * p.lanes + lane;
    used = vector < p.vectors;
    channel = vector * p.width;
    first = int64_t(chunk) * p.side + beside, step = int64_t(p.chunks) * p.side;
  }
};

// Constants of a thread's channels: z = (x - mean) * scale + shift.
template <class A, int WIDTH>
struct Affine {
  A mean[WIDTH], inverse[WIDTH], scale[WIDTH], shift[WIDTH];

  __device__ Affine(A const* weight, A const* bias, A const* means, A const* variance, double eps, int channel) {
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) {
      int const c = channel + v;
      mean[v] = means[c];
      inverse[v] = A(1) / sqrt(variance[c] + A(eps));
      scale[v] = weight ? inverse[v] * weight[c] : inverse[v];
      shift[v] = bias ? bias[c] : A(0);
    }
  }
};

template <class A>
A* or_null(View v) {
  return v ? v.as<A>() : nullptr;
}

// f(T(), WIDTH) for the storage type and the channels that a thread takes.
template <class F>
void for_channels(View x, F&& f, View more = View(), View other = View()) {
  for_float_cuda(x.dtype, "batch_norm_act", [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_same_v<T, double>)
      if (pairs_fit(x.shape[x.rank - 1], sizeof(T), x.data, more ? more.data : nullptr, other ? other.data : nullptr))
        return f(zero, std::integral_constant<int, 2>());
    f(zero, std::integral_constant<int, 1>());
  });
}

}  // namespace

}  // namespace leyolo

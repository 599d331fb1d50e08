#include "core/assignment.cuh"
#include "ops/fcos/fcos.h"
#include "ops/fcos/fcos_math.h"

namespace leyolo {

namespace {

struct Plan {
  Truths truths;
  Floats centers, strides, ranges;
  float radius;
  int rows;  // of `ranges`; 0: none given
  int64_t B, A, G;

  float* levels;     // [kFcosMostLevels]: the distinct strides in the order of their appearance
  int* level_count;  // [1]
  int64_t bytes;

  Plan(FcosInputs const& in, Fcos const& params, void* workspace)
      : truths(in.gt, -1, params.fmt == "xyxy"),
        centers(in.centers),
        strides(in.strides),
        ranges(in.ranges),
        radius(float(params.radius)),
        rows(in.ranges ? int(std::min<int64_t>(in.ranges.shape[0], kFcosMostLevels)) : 0) {
    B = in.gt.boxes.shape[0], A = in.centers.shape[0], G = truths.G;
    Scratch memory(workspace);
    levels = memory.take<float>(kFcosMostLevels);
    level_count = memory.take<int>(1);
    bytes = memory.used();
  }
};

// The first block finds the levels, one search over the anchors for each; all of them clear the counts.
__global__ void __launch_bounds__(kThreads) fcos_prepare(Plan p, Outputs out) {
  LEYOLO_SHARED(Key, slots, 2 * kThreads / kWarp);
  LEYOLO_SHARED(float, found, kFcosMostLevels);
  int64_t const i = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (i < p.B) out.num_fg[i] = 0;
  if (i < p.B * p.G) out.dynamic_k[i] = 0;
  if (blockIdx.x > 0 || p.rows == 0) return;
  int count = 0;
  for (int64_t from = 0; count < p.rows; ++count) {
    Key first = kNoKey;  // anchor from `from` on whose stride is none of those found
    for (int64_t j = from + threadIdx.x; j < p.A && first == kNoKey; j += kThreads) {
      float const stride = p.strides[j];
      bool known = false;
      for (int l = 0; l < count; ++l) known |= found[l] == stride;
      if (!known) first = Key(j);
    }
    first = block_smallest(first, slots, count);
    if (first == kNoKey) break;
    from = int64_t(first) + 1;
    if (threadIdx.x == 0) p.levels[count] = found[count] = p.strides[int64_t(first)];
    __syncthreads();
  }
  if (threadIdx.x == 0) *p.level_count = count;
}

// One thread per anchor over all ground truths of its image.
__global__ void __launch_bounds__(kThreads) fcos_anchors(Plan p, int64_t blocks_per_image, Outputs out) {
  LEYOLO_SHARED(float, fields, kBoxFields* kTruthTile);
  int64_t const b = blockIdx.x / blocks_per_image, j = blockIdx.x % blocks_per_image * kThreads + threadIdx.x;
  int const n = p.truths.count(b);
  bool const valid = j < p.A;
  float const x = valid ? p.centers[2 * j] : 0.0f, y = valid ? p.centers[2 * j + 1] : 0.0f;
  float const stride = valid ? p.strides[j] : 0.0f, radius = p.radius * stride;
  float low = -__builtin_inff(), high = __builtin_inff();
  if (p.rows > 0) {
    int const count = *p.level_count;
    int level = 0;
    while (level < count && p.levels[level] != stride) ++level;
    // A stride without a range (an error on the CPU) takes nothing.
    low = level < count ? p.ranges[2 * level] : __builtin_inff();
    high = level < count ? p.ranges[2 * level + 1] : -__builtin_inff();
  }
  float smallest = __builtin_inff();
  int owner = -1;
  TruthTile const truths{fields};
  for (int g = 0; g < n; g += kTruthTile) {
    int const count = min(kTruthTile, n - g);
    __syncthreads();
    truths.fill(p.truths, b, g, count);
    __syncthreads();
    for (int i = 0; i < count; ++i) {
      CenteredBox const t = truths[i];
      if (fcos_takes(x, y, radius, low, high, t.box, t.cx, t.cy) & (t.box.area < smallest)) {
        smallest = t.box.area;
        owner = g + i;
      }
    }
  }
  if (!valid) owner = -1;
  unsigned const foreground = __ballot_sync(kAllLanes, owner >= 0);
  if (threadIdx.x % kWarp == 0 && foreground) add_to(out.num_fg + b, __popc(foreground));
  if (!valid) return;
  int64_t const at = b * p.A + j;
  out.gt_index[at] = owner;
  out.iou[at] = out.score[at] = owner >= 0 ? 1.0f : 0.0f;
  if (owner >= 0) add_to(out.dynamic_k + b * p.G + owner, 1);
}

}  // namespace

int64_t fcos_workspace_cuda(FcosInputs const& in) { return Plan(in, Fcos(), nullptr).bytes; }

void fcos_assign_cuda(FcosInputs const& in, Assigned const& out, View workspace, Fcos const& params,
                      Context const& context) {
  Plan const p(in, params, workspace.data);
  if (p.B == 0) return;
  LEYOLO_LAUNCH(fcos_prepare, blocks(p.B * std::max<int64_t>(p.G, 1)), kThreads, 0, context.stream, p, Outputs(out));
  if (p.A == 0) return;
  unsigned const per_image = blocks(p.A);
  LEYOLO_LAUNCH(fcos_anchors, unsigned(p.B * per_image), kThreads, 0, context.stream, p, per_image, Outputs(out));
}

}  // namespace leyolo

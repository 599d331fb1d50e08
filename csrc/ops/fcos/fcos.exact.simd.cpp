#include "core/exact_simd.h"
#include "ops/fcos/fcos_args.h"

namespace leyolo::LEYOLO_ISA {

extern void fcos_anchors(FcosArgs const& a) {
  for (long long i = a.begin; i < a.end; i += kLanes) {
    vf const x = load(a.x + i), y = load(a.y + i), radius = load(a.radius + i), low = load(a.low + i),
             high = load(a.high + i);
    vf smallest = splat(__builtin_inff());
    vi owner = vi{} - 1;
    for (long long g = 0; g < a.target_count; ++g) {
      AreaBox<vf> const box = box_in_all_lanes(a.targets, g);
      vi const takes =
          fcos_takes(x, y, radius, low, high, box, splat(a.targets[kCenterX][g]), splat(a.targets[kCenterY][g])) &
          (box.area < smallest);
      smallest = takes ? box.area : smallest;
      owner = takes ? vi{} + int(g) : owner;
    }
    for (int l = 0; l < kLanes; ++l) a.owner[i + l] = owner[l];
  }
}

}  // namespace leyolo::LEYOLO_ISA

"""Random boxes, as detectors make them."""

from __future__ import annotations

import torch
from torch import Tensor


def scattered(count: int, seed: int = 0) -> Tensor:
    """float32 [N, 4] xyxy, all over an image of 640 x 640."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * 560
    return torch.cat([corner, corner + 8 + torch.rand(count, 2, generator=g) * 72], 1)


def clustered(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes [N, 4] in groups of 20 that overlap, in any order, and scores [N]: what reaches a detector's NMS."""
    g = torch.Generator().manual_seed(seed)
    groups = -(-count // 20)
    centers = torch.rand(groups, 2, generator=g) * 1240 + 20
    sizes = torch.rand(groups, 2, generator=g) * 100 + 20
    of = torch.randint(groups, (count,), generator=g)
    middle = centers[of] + torch.randn(count, 2, generator=g) * sizes[of] * 0.125
    half = sizes[of] * (1 + torch.randn(count, 2, generator=g) * 0.125).clamp(0.5, 1.5) / 2
    return torch.cat([middle - half, middle + half], 1), torch.rand(count, generator=g)

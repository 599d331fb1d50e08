"""Random boxes for these benchmarks, made on the CPU with a fixed seed."""

from __future__ import annotations

import torch
from torch import Tensor


def scattered(*shape: int, device: str, seed: int = 0) -> Tensor:
    """float32 [..., 4] xyxy, all over an image of 640 x 640."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=g) * 560
    return torch.cat([corner, corner + 8 + torch.rand(*shape, 2, generator=g) * 72], -1).to(device)


def clustered(batch: int, count: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [B, N, 4] in overlapping groups of 20, scores [B, N] and labels [B, N], of 80 classes."""
    g = torch.Generator().manual_seed(seed)
    groups = -(-count // 20)
    middle, sizes = torch.rand(batch, groups, 2, generator=g) * 1240, torch.rand(batch, groups, 2, generator=g) * 100
    of = torch.randint(groups, (batch, count), generator=g)
    pick = of[..., None].expand(-1, -1, 2)
    size = sizes.gather(1, pick) + 20
    at = middle.gather(1, pick) + torch.randn(batch, count, 2, generator=g) * size / 8
    half = size * (1 + torch.randn(batch, count, 2, generator=g) / 8).clamp(0.5, 1.5) / 2
    return (
        torch.cat([at - half, at + half], -1).to(device),
        torch.rand(batch, count, generator=g).to(device),
        (of % 80).to(device),
    )

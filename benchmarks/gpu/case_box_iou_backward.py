"""Pairwise IoU, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scattered
from leyolo.ops.box_iou import box_iou_reference


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    batch, n, m = (64, 8400, 50) if device == "cuda" else (2, 84, 50)
    a = torch.stack([scattered(n, seed=i) for i in range(batch)]).to(device).requires_grad_()
    b = torch.stack([scattered(m, seed=100 + i) for i in range(batch)]).to(device).requires_grad_()
    upstream = torch.rand(batch, n, m, generator=torch.Generator().manual_seed(0)).to(device)

    def step(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(a, b), (a, b), upstream)

    for kind in ("iou", "complete"):
        ours = getattr(ops, "box_iou" if kind == "iou" else f"{kind}_box_iou")
        plain = partial(box_iou_reference, kind=kind)
        yield GpuCase(
            name=f"box_iou {kind} {batch} x {n} x {m}, forward and backward",
            contestants={OURS: partial(step, ours), "torch": partial(step, plain)},
            bytes=48 * batch * (n + m) + 8 * batch * n * m,
            tolerance=1e-2,  # sums of 8400 terms
        )

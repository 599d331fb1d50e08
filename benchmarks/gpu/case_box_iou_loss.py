"""Losses of matched boxes: for eager torch the launches are all of their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scattered
from leyolo.ops.box_iou_loss import box_iou_loss_reference


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    for count in (1000, 32000) if device == "cuda" else (100,):
        for kind in ("generalized", "distance", "complete"):
            yield from _cases(device, kind, count)


def _cases(device: str, kind: str, count: int) -> Iterator[GpuCase]:
    a, b = scattered(count).to(device), scattered(count, seed=1).to(device)
    wanted = a.clone().requires_grad_()
    upstream = torch.rand(count, generator=torch.Generator().manual_seed(0)).to(device)

    def step(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(wanted, b), wanted, upstream)

    ours = getattr(ops, f"{kind}_box_iou_loss")
    plain = partial(box_iou_loss_reference, kind=kind)
    yield GpuCase(
        name=f"{kind} loss of {count}",
        contestants={OURS: partial(ours, a, b), "torch": partial(plain, a, b)},
        bytes=36 * count,
        tolerance=1e-5,
    )
    yield GpuCase(
        name=f"{kind} loss of {count}, forward and backward",
        contestants={OURS: partial(step, ours), "torch": partial(step, plain)},
        bytes=(36 + 52) * count,
        goal_us=10 if kind == "complete" and device == "cuda" else None,
        tolerance=1e-3,
        headline=kind == "complete" and count != 1000,
    )

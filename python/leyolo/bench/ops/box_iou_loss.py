"""Losses of pairs of boxes, as training calls them: the value, and the value with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from leyolo import ops
from leyolo.bench.ops.boxes import scattered
from leyolo.bench.ops.case import OURS, Case, Contestant, peer
from leyolo.ops.box_iou_loss import box_iou_loss_reference

Loss = Callable[[Tensor, Tensor], Tensor]


def cases(size: str, imgsz: int) -> list[Case]:
    """The same for every network and image size."""
    count = 8400
    return [
        Case(
            op="box_iou_loss",
            name=f"{kind} of {count} pairs" + (" and gradients" if gradients else ""),
            build=partial(_build, kind, count, gradients),
            bytes=(36 + 36 * gradients) * count,
            tolerance=1e-4,
        )
        for kind, gradients in (
            ("generalized", False),
            ("distance", False),
            ("complete", False),
            ("complete", True),
        )
    ]


def _build(kind: str, count: int, gradients: bool, threads: int) -> dict[str, Contestant]:
    a = scattered(count)
    b = a + 8 * torch.rand(count, 4, generator=torch.Generator().manual_seed(1))

    def contestant(loss: Loss) -> Contestant:
        return Contestant(lambda: _with_gradients(loss, a, b) if gradients else loss(a, b))

    found = {
        OURS: contestant(getattr(ops, f"{kind}_box_iou_loss")),
        "torch": contestant(lambda x, y: box_iou_loss_reference(x, y, kind)),
    }
    if vision := peer("torchvision"):
        found["torchvision"] = contestant(getattr(vision.ops, f"{kind}_box_iou_loss"))
    return found


def _with_gradients(loss: Loss, a: Tensor, b: Tensor) -> tuple[Any, ...]:
    with torch.enable_grad():
        a = a.detach().requires_grad_()
        value = loss(a, b).sum()
    return value.detach() / len(a), *torch.autograd.grad(value, a)

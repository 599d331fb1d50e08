"""Pairwise IoU: all pairs of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module

import torch

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scattered
from leyolo.bench.ops.case import peer
from leyolo.ops.box_iou import box_iou_reference


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    batch, n, m = (64, 8400, 50) if device == "cuda" else (2, 84, 50)
    a = torch.stack([scattered(n, seed=i) for i in range(batch)]).to(device)
    b = torch.stack([scattered(m, seed=100 + i) for i in range(batch)]).to(device)
    for kind in ("iou", "generalized", "complete"):
        ours = getattr(ops, "box_iou" if kind == "iou" else f"{kind}_box_iou")
        contestants = {OURS: partial(ours, a, b), "torch": partial(box_iou_reference, a, b, kind)}
        if peer("torchvision") and kind != "iou":
            theirs = getattr(import_module("torchvision.ops"), f"{kind}_box_iou")
            contestants["torchvision"] = lambda theirs=theirs: torch.stack(
                [theirs(x, y) for x, y in zip(a, b, strict=True)]
            )
        yield GpuCase(
            name=f"box_iou {kind} {batch} x {n} x {m}",
            contestants=contestants,
            bytes=16 * batch * (n + m) + 4 * batch * n * m,
            goal_us=50 if kind == "iou" and device == "cuda" else None,
            tolerance=1e-5,
            headline=kind == "iou",
        )

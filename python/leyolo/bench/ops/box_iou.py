"""Pairwise IoU, and its relatives at one size."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from leyolo import ops
from leyolo.bench.ops.boxes import scattered
from leyolo.bench.ops.case import OURS, Case, Contestant, peer
from leyolo.ops.box_iou import box_iou_reference

# Of a pair: extrema and differences, products, the union and the division; the others add hull, centres, angles.
OPERATIONS = {"iou": 12, "generalized": 19, "distance": 28, "complete": 40}


def cases(size: str, imgsz: int) -> list[Case]:
    """The same for every network and image size."""
    shapes = [("iou", 1000, 1000), ("iou", 8400, 200), ("iou", 20000, 500)]
    shapes += [(kind, 8400, 200) for kind in ("generalized", "distance", "complete")]
    return [
        Case(
            op="box_iou",
            name=f"{kind} {n} x {m}",
            build=partial(_build, kind, n, m),
            bytes=16 * (n + m) + 4 * n * m,
            operations=OPERATIONS[kind] * n * m,
            tolerance=1e-5,
        )
        for kind, n, m in shapes
    ]


def _build(kind: str, n: int, m: int, threads: int) -> dict[str, Contestant]:
    a, b = scattered(n), scattered(m, seed=1)
    name = "box_iou" if kind == "iou" else f"{kind}_box_iou"
    ours = getattr(ops, name)
    found = {
        OURS: Contestant(lambda: ours(a, b)),
        "torch": Contestant(lambda: box_iou_reference(a, b, kind)),
    }
    if kind == "iou":
        found["torch, planar and in place"] = Contestant(lambda: _planar(a, b))
    if vision := peer("torchvision"):
        theirs = getattr(vision.ops, name)
        found["torchvision"] = Contestant(lambda: theirs(a, b))
    return found


def _planar(a: Tensor, b: Tensor) -> Tensor:
    """The fewest and smallest temporaries that torch allows."""
    x1, y1, x2, y2 = a.t().contiguous()[:, :, None]
    u1, v1, u2, v2 = b.t().contiguous()[:, None]
    inter = torch.minimum(x2, u2).sub_(torch.maximum(x1, u1)).clamp_(min=0)
    inter.mul_(torch.minimum(y2, v2).sub_(torch.maximum(y1, v1)).clamp_(min=0))
    union = ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)).sub_(inter)
    return inter.div_(union)

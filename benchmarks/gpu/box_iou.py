"""Pairwise IoU of a batch: all anchors of 64 images against their boxes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from case import Case, main
from leyolo import ops
from leyolo.bench.ops.boxes import scattered
from leyolo.ops.box_iou import box_iou_reference


def cases(device: str, tiny: bool) -> Iterator[Case]:
    batch, n, m = (2, 84, 50) if tiny else (64, 8400, 50)
    a = torch.stack([scattered(n, seed=i) for i in range(batch)]).to(device)
    b = torch.stack([scattered(m, seed=100 + i) for i in range(batch)]).to(device)
    for kind in ("iou", "generalized", "distance", "complete"):
        ours = getattr(ops, "box_iou" if kind == "iou" else f"{kind}_box_iou")
        yield Case(
            "box_iou",
            f"{kind}, {batch} x {n} x {m}",
            partial(ours, a, b),
            partial(box_iou_reference, a, b, kind),
            16 * batch * (n + m) + 4 * batch * n * m,
            tolerance=1e-5,
            goal_ms=0.05 if kind == "iou" else None,
            headline=kind == "iou",
        )


if __name__ == "__main__":
    main(cases)

"""All pairs of predictions and objects, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from boxes import scattered
from case import Case, main
from torch import Tensor

from leyolo.ops import box_iou, complete_box_iou, generalized_box_iou
from leyolo.ops.box_iou import box_iou_reference


def cases(device: str, tiny: bool) -> Iterator[Case]:
    sizes = [(2, 30, 7), (1, 5, 64)] if tiny else [(64, 8400, 50), (64, 50, 8400), (1, 8400, 50), (1, 4096, 4096)]
    kinds = {"iou": box_iou, "generalized": generalized_box_iou, "complete": complete_box_iou}
    for b, n, m in sizes:
        for kind, ours in kinds.items():
            yield from _cases(device, b, n, m, kind, ours)


def _cases(device: str, b: int, n: int, m: int, kind: str, ours: Any) -> list[Case]:
    boxes1, boxes2 = scattered(b, n, device=device), scattered(b, m, device=device, seed=1)
    wanted1, wanted2 = (x.clone().requires_grad_() for x in (boxes1, boxes2))
    upstream = torch.rand(b, n, m, device=device)

    def plain(boxes1: Tensor, boxes2: Tensor) -> Tensor:
        return box_iou_reference(boxes1, boxes2, kind)

    def step(function: Any) -> Any:
        return torch.autograd.grad(function(wanted1, wanted2), (wanted1, wanted2), upstream)

    values = 4 * b * (4 * n + 4 * m + n * m)
    name = f"{kind}, {b} x {n} x {m}"
    return [
        Case(
            "box_iou",
            name,
            lambda: ours(boxes1, boxes2),
            lambda: plain(boxes1, boxes2),
            values,
            tolerance=1e-5,
        ),
        Case(
            "box_iou",
            f"{name}, forward and backward",
            lambda: step(ours),
            lambda: step(plain),
            2 * values,
            tolerance=1e-3,
            graph=False,
        ),
    ]


if __name__ == "__main__":
    main(cases)

"""The losses of matched boxes, forward and backward: launches are all of their cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from boxes import scattered
from torch import Tensor

from case import Case, main
from leyolo.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss
from leyolo.ops.box_iou_loss import box_iou_loss_reference

LOSSES = {
    "generalized": generalized_box_iou_loss,
    "distance": distance_box_iou_loss,
    "complete": complete_box_iou_loss,
}


def cases(device: str, tiny: bool) -> Iterator[Case]:
    for kind, ours in LOSSES.items():
        for count in (17,) if tiny else (1000, 32000):
            yield from _cases(device, kind, ours, count)


def _cases(device: str, kind: str, ours: Any, n: int) -> list[Case]:
    boxes1, boxes2 = scattered(n, device=device), scattered(n, device=device, seed=1)
    wanted = boxes1.clone().requires_grad_()
    upstream = torch.rand(n, device=device)

    def plain(boxes1: Tensor, boxes2: Tensor) -> Tensor:
        return box_iou_loss_reference(boxes1, boxes2, kind)

    def step(function: Any) -> Any:
        return torch.autograd.grad(function(wanted, boxes2), wanted, upstream)

    return [
        Case(
            "box_iou_loss",
            f"{kind}, {n} boxes",
            lambda: ours(boxes1, boxes2),
            lambda: plain(boxes1, boxes2),
            36 * n,
            tolerance=1e-5,
        ),
        Case(
            "box_iou_loss",
            f"{kind}, {n} boxes, forward and backward",
            lambda: step(ours),
            lambda: step(plain),
            (36 + 52) * n,
            tolerance=1e-3,
            graph=False,
        ),
    ]


if __name__ == "__main__":
    main(cases)

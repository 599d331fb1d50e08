"""Greedy NMS of one class: boxes in overlapping groups of 20, scores unsorted (the time includes sorting them)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from leyolo import _C, ops
from leyolo.bench.ops.boxes import clustered
from leyolo.bench.ops.case import OURS, Case, Contestant, peer


def cases(size: str, imgsz: int) -> list[Case]:
    """The same for every network and image size."""
    return [
        Case(
            op="nms",
            name=f"{count} boxes, IoU {threshold}",
            build=partial(_build, count, threshold),
            bytes=20 * count,
            tolerance=0,
        )
        for count in (1000, 5000, 20000)
        for threshold in (0.7, 0.45)
    ]


def _build(count: int, threshold: float, threads: int) -> dict[str, Contestant]:
    boxes, scores = clustered(count)
    arrays = boxes.numpy(), scores.numpy()
    found = {
        OURS: Contestant(lambda: ops.nms(boxes, scores, threshold)),
        "leyolo on numpy": Contestant(lambda: _C.nms(*arrays, threshold)),
        "plain C++ loop": Contestant(lambda: _C._plain_nms(*arrays, threshold)),
        "torch, a row at a time": Contestant(lambda: _rows(boxes, scores, threshold)),
    }
    if count <= 5000:  # its matrices grow with the square
        found["torch, one matrix"] = Contestant(lambda: _matrix(boxes, scores, threshold))
    if cv2 := peer("cv2"):
        corner_size = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).double().numpy()
        found["cv2"] = Contestant(lambda: cv2.dnn.NMSBoxes(corner_size, arrays[1], 0.0, threshold))
    if vision := peer("torchvision"):
        found["torchvision"] = Contestant(lambda: vision.ops.nms(boxes, scores, threshold))
    return found


def _iou(box: Tensor, area: Tensor, boxes: Tensor, areas: Tensor) -> Tensor:
    size = (torch.minimum(box[..., 2:], boxes[..., 2:]) - torch.maximum(box[..., :2], boxes[..., :2])).clamp_(min=0)
    inter = size[..., 0] * size[..., 1]
    return inter / (area + areas - inter)


def _sorted(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    return order, boxes, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _rows(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Takes the best box and drops what it covers, until none is left."""
    order, boxes, areas = _sorted(boxes, scores)
    kept = []
    while len(order):
        kept.append(order[0])
        near = _iou(boxes[0], areas[0], boxes[1:], areas[1:]) <= threshold
        order, boxes, areas = order[1:][near], boxes[1:][near], areas[1:][near]
    return torch.stack(kept)


def _matrix(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """All IoUs at once; then a box stays if no staying box before it covers it, repeated until nothing changes."""
    order, boxes, areas = _sorted(boxes, scores)
    covers = (_iou(boxes[:, None], areas[:, None], boxes, areas) > threshold).triu_(1).float()
    stays: Any = torch.ones(len(order))
    while True:
        then = (stays @ covers == 0).float()
        if torch.equal(then, stays):
            return order[stays.bool()]
        stays = then

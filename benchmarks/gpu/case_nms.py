"""NMS of batches with fixed shapes, and of one image with a result of unknown size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from case import OURS, GpuCase, Run
from leyolo.bench.ops.boxes import clustered
from leyolo.bench.ops.case import peer
from leyolo.ops import nms, nms_padded
from leyolo.ops.box_iou import box_iou_reference

THRESHOLD, MAX_DET, CLASSES = 0.7, 300, 80


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    cuda = device == "cuda"
    goals = {(1, 1000): 40, (64, 1000): 60}
    for batch, count in [(64, 1000), (1, 1000), (1, 300), (8, 1000), (64, 8400)] if cuda else [(2, 100)]:
        yield _batch(device, batch, count, goals.get((batch, count)))
    for count in (1000, 4000, 10000, 30000) if cuda else (100,):
        yield _single(device, count)


def _boxes(device: str, batch: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    images = [clustered(count, seed=i) for i in range(batch)]
    labels = torch.randint(CLASSES, (batch, count), generator=torch.Generator().manual_seed(0))
    boxes, scores = (torch.stack(parts) for parts in zip(*images, strict=True))
    return boxes.to(device), scores.to(device), labels.to(device)


def _kept(boxes: Tensor, scores: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Plain torch for a batch: what a kept box drops, again and again until nothing changes. N x N memory."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    above = (box_iou_reference(boxes, boxes).double() > THRESHOLD).triu(1)
    if labels is not None:
        sorted_labels = labels.gather(1, order)
        above &= sorted_labels[:, :, None] == sorted_labels[:, None]
    kept = torch.ones_like(scores, dtype=torch.bool)
    while True:
        now = ~(above & kept[:, :, None]).any(1)
        if torch.equal(now, kept):
            return order, kept
        kept = now


def _matrices(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    order, kept = _kept(boxes, scores, labels)
    place = kept.cumsum(1) - 1
    place = torch.where(kept & (place < MAX_DET), place, MAX_DET)
    out = torch.full((len(boxes), MAX_DET + 1), -1, dtype=torch.int64, device=boxes.device)
    return out.scatter(1, place, order)[:, :MAX_DET]


def _matrix(boxes: Tensor, scores: Tensor) -> Tensor:
    order, kept = _kept(boxes[None], scores[None], None)
    return order[kept]


def _image_by_image(batched_nms: Callable[..., Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    out = torch.full((len(boxes), MAX_DET), -1, dtype=torch.int64, device=boxes.device)
    for image in range(len(boxes)):
        found = batched_nms(boxes[image], scores[image], labels[image], THRESHOLD)[:MAX_DET]
        out[image, : len(found)] = found
    return out


def _vision() -> Any:
    return import_module("torchvision.ops") if peer("torchvision") else None


def _batch(device: str, batch: int, count: int, goal: float | None) -> GpuCase:
    arrays = _boxes(device, batch, count)

    def ours() -> Tensor:
        return nms_padded(*arrays, iou_threshold=THRESHOLD, max_det=MAX_DET)[0]

    contestants: dict[str, Run] = {OURS: ours}
    if batch * count**2 <= 1 << 27:
        contestants["torch, matrices"] = partial(_matrices, *arrays)
    if vision := _vision():
        contestants["torchvision, image by image"] = partial(_image_by_image, vision.batched_nms, *arrays)
    return GpuCase(
        name=f"nms_padded {batch} x {count}, {CLASSES} classes",
        contestants=contestants,
        bytes=batch * (28 * count + 8 * MAX_DET),
        goal_us=goal,
        # torchvision shifts the classes apart in float32, which rounds: now and then it keeps another box
        tolerance=None if vision else 0,
        headline=goal is not None or device == "cpu",
    )


def _single(device: str, count: int) -> GpuCase:
    boxes, scores, _ = (part[0] for part in _boxes(device, 1, count))
    contestants: dict[str, Run] = {OURS: partial(nms, boxes, scores, THRESHOLD)}
    if count <= 10000:
        contestants["torch, matrix"] = partial(_matrix, boxes, scores)
    if vision := _vision():
        contestants["torchvision"] = partial(vision.nms, boxes, scores, THRESHOLD)
    return GpuCase(
        name=f"nms {count}, one class",
        contestants=contestants,
        bytes=20 * count,
        tolerance=0,
        headline=count == 1000,
    )

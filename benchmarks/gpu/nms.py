"""NMS of batches and of single images; eager is torchvision, image by image, or plain torch without it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from boxes import clustered
from torch import Tensor

from case import Case, main
from leyolo.ops import batched_nms, nms, nms_padded
from leyolo.ops.nms import nms_reference


def cases(device: str, tiny: bool) -> Iterator[Case]:
    batches = [(2, 70)] if tiny else [(1, 300), (1, 1000), (1, 8400), (8, 1000), (64, 1000), (64, 8400)]
    singles = [100] if tiny else [1000, 4000, 10000, 30000]
    for batch, count in batches:
        yield _padded(device, batch, count)
    for count in singles:
        yield _single(device, count)


def _peer() -> Any:
    try:
        return importlib.import_module("torchvision").ops
    except ImportError:
        return None


def _padded(device: str, batch: int, count: int, max_det: int = 300) -> Case:
    boxes, scores, labels = clustered(batch, count, device)
    peer = _peer()

    def one(image: int) -> Tensor:
        if peer:
            found: Tensor = peer.batched_nms(boxes[image], scores[image], labels[image], 0.7)
        else:
            found = nms_reference(boxes[image], scores[image], 0.7, labels[image])
        return found[:max_det]

    def eager() -> Tensor:
        out = torch.full((batch, max_det), -1, device=device)
        for image in range(batch):
            found = one(image)
            out[image, : len(found)] = found
        return out

    feasible = peer or batch * count <= 10_000  # plain torch goes from box to box
    return Case(
        "nms_padded",
        f"{batch} x {count} boxes, 80 classes, {max_det} kept" + (", torchvision" if peer else ""),
        lambda: nms_padded(boxes, scores, labels, iou_threshold=0.7, max_det=max_det)[0],
        eager if feasible else None,
        batch * (28 * count + 8 * max_det),
        # torchvision shifts classes apart in float32, which rounds: an index of thousands may differ
        tolerance=None if peer else 0,
    )


def _single(device: str, count: int) -> Case:
    boxes, scores, labels = (x[0] for x in clustered(1, count, device))
    peer = _peer()

    def eager() -> Tensor:
        found: Tensor = peer.nms(boxes, scores, 0.7) if peer else nms_reference(boxes, scores, 0.7)
        return found

    return Case(
        "nms",
        f"{count} boxes, one image" + (", torchvision" if peer else ""),
        lambda: nms(boxes, scores, 0.7),
        eager if peer or count <= 4000 else None,
        20 * count,
        others={"batched": lambda: batched_nms(boxes, scores, labels, 0.7)},
        tolerance=0,
        graph=False,  # its result's size has to reach the host
    )


if __name__ == "__main__":
    main(cases)

"""FCOS's assignment of a batch, beside the same rule in plain torch, image by image."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scene
from leyolo.ops.fcos import fcos_reference


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    shapes = [(64, 50, 640), (1, 50, 640)] if device == "cuda" else [(2, 6, 64)]
    for images, objects, imgsz in shapes:
        yield _case(device, images, objects, imgsz)


def _case(device: str, images: int, objects: int, imgsz: int) -> GpuCase:
    s = scene(images, objects, imgsz).to(device)
    anchors = len(s.centers)
    return GpuCase(
        name=f"fcos {images} x {anchors} anchors x {objects} objects",
        contestants={
            OURS: lambda: ops.fcos_assign(s.gt_boxes, s.gt_labels, s.gt_counts, s.centers, s.strides).gt_index,
            "torch": lambda: torch.stack([fcos_reference(boxes, s.centers, s.strides) for boxes in s.gt_boxes]),
        },
        bytes=images * (16 * anchors + 32 * objects) + 12 * anchors,
        tolerance=0,
    )

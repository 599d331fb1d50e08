"""Task-aligned assignment of a batch, beside the same rule in plain torch, image by image."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scene, scene_bytes
from leyolo.bench.ops.tal import image_in_torch


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    shapes = [(64, 50, 640), (8, 50, 640), (1, 50, 640), (16, 200, 640)] if device == "cuda" else [(2, 6, 64)]
    for images, objects, imgsz in shapes:
        yield _case(device, images, objects, imgsz, headline=(images, objects) == shapes[0][:2])


def _case(device: str, images: int, objects: int, imgsz: int, headline: bool) -> GpuCase:
    s = scene(images, objects, imgsz).to(device)
    scores = s.cls_logits.sigmoid()
    return GpuCase(
        name=f"tal {images} x {len(s.centers)} anchors x {objects} objects",
        contestants={
            OURS: lambda: ops.tal_assign(scores, s.boxes, s.gt_boxes, s.gt_labels, s.gt_counts, s.centers).num_fg,
            "torch": lambda: torch.stack([image_in_torch(s, scores, b)[0] for b in range(images)]).ge(0).sum(1),
        },
        bytes=scene_bytes(images, objects, imgsz),
        tolerance=8,  # foreground anchors of an image: picks among metrics of 0 are anybody's
        headline=headline,
    )

"""OTA of a batch, beside the same Sinkhorn iterations in plain torch, image by image."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scene
from leyolo.bench.ops.ota import ITERATIONS, image_in_torch


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    shapes = [(64, 50, 640), (8, 50, 640), (1, 50, 640)] if device == "cuda" else [(2, 6, 64)]
    for images, objects, imgsz in shapes:
        yield _case(device, images, objects, imgsz)


def _case(device: str, images: int, objects: int, imgsz: int) -> GpuCase:
    s = scene(images, objects, imgsz).to(device)
    anchors = len(s.centers)
    return GpuCase(
        name=f"ota {images} x {anchors} anchors x {objects} objects",
        contestants={
            OURS: lambda: (
                ops.ota_assign(
                    *(s.cls_logits, None, s.boxes, s.gt_boxes, s.gt_labels, s.gt_counts, s.centers, s.strides),
                    fmt="xyxy",
                ).num_fg
            ),
            "torch": lambda: torch.stack([image_in_torch(s, b) for b in range(images)]).ge(0).sum(1),
        },
        bytes=4 * images * anchors * (objects + 1) * ITERATIONS,  # the costs once for each iteration
        tolerance=40,  # foreground anchors of an image: plans that have not converged hang on rounding
    )

"""SimOTA of a batch in three launches, beside YOLOX's rule in plain torch, image by image."""

from __future__ import annotations

from collections.abc import Iterator

from case import OURS, GpuCase
from leyolo import ops
from leyolo.bench.ops.boxes import scene, scene_bytes
from leyolo.bench.ops.simota import in_torch


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    shapes = [(64, 50, 640), (8, 50, 640), (1, 50, 640), (16, 200, 640)] if device == "cuda" else [(2, 6, 64)]
    for rule in ("main", "v030"):
        for images, objects, imgsz in shapes:
            headline = rule == "main" and (images, objects) == shapes[0][:2]
            yield _case(device, rule, images, objects, imgsz, headline)


def _case(device: str, rule: str, images: int, objects: int, imgsz: int, headline: bool) -> GpuCase:
    s = scene(images, objects, imgsz).to(device)
    return GpuCase(
        name=f"simota {rule} {images} x {len(s.centers)} anchors x {objects} objects",
        contestants={
            OURS: lambda: (
                ops.simota_assign(
                    *(s.cls_logits, s.obj_logits, s.boxes, s.gt_boxes, s.gt_labels, s.gt_counts, s.centers, s.strides),
                    rule=rule,
                    fmt="xyxy",
                ).num_fg
            ),
            # as published the costs go through an array of objects * candidates * classes; this is the faster way
            "torch, closed form": lambda: (in_torch(s, rule, closed=True) >= 0).sum(1),
        },
        bytes=scene_bytes(images, objects, imgsz),
        goal_us=80 if headline and device == "cuda" else None,
        tolerance=8,  # foreground anchors of an image: costs may agree to the last digit
        headline=headline,
    )

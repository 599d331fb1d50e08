"""FCOS's assignment with centre sampling, beside the same rule in plain torch."""

from __future__ import annotations

from functools import partial

from leyolo import ops
from leyolo.bench.ops.boxes import scene
from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.ops.fcos import fcos_reference


def cases(size: str, imgsz: int) -> list[Case]:
    """One image."""
    return [
        Case(
            op="fcos",
            name=f"{objects} objects",
            build=partial(_build, objects, imgsz),
            bytes=28 * objects + 28 * sum((imgsz // stride) ** 2 for stride in (8, 16, 32)),
            tolerance=0,
        )
        for objects in (20, 50, 200)
    ]


def _build(objects: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    s = scene(1, objects, imgsz)
    return {
        OURS: Contestant(
            lambda: ops.fcos_assign(s.gt_boxes, s.gt_labels, s.gt_counts, s.centers, s.strides),
            lambda assignment: [assignment.gt_index[0]],
        ),
        "torch": Contestant(lambda: fcos_reference(s.gt_boxes[0], s.centers, s.strides)),
    }

"""Task-aligned assignment, beside the same rule in plain torch, image by image."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from leyolo import ops
from leyolo.bench.ops.boxes import Scene, scene, scene_bytes
from leyolo.bench.ops.case import OURS, Case, Contestant, unequal_share
from leyolo.ops.assignment import sides
from leyolo.ops.tal import complete_iou_matrix


def cases(size: str, imgsz: int) -> list[Case]:
    """One image and a batch; decisions may differ where alignments agree to the last digit."""
    return [
        Case(
            op="tal",
            name=f"{images} images, {objects} objects" if images > 1 else f"{objects} objects",
            build=partial(_build, images, objects, imgsz),
            bytes=scene_bytes(images, objects, imgsz),
            tolerance=1e-3,
            difference=unequal_share,
        )
        for images, objects in ((1, 20), (1, 50), (1, 200), (8, 50))
    ]


def _build(images: int, objects: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    s = scene(images, objects, imgsz)
    scores = s.cls_logits.sigmoid()
    return {
        OURS: Contestant(
            lambda: ops.tal_assign(scores, s.boxes, s.gt_boxes, s.gt_labels, s.gt_counts, s.centers),
            lambda assignment: [assignment.gt_index, (1000 * assignment.score).round()],
        ),
        "torch": Contestant(
            lambda: tuple(map(torch.stack, zip(*(image_in_torch(s, scores, b) for b in range(images)), strict=True))),
            lambda found: [found[0], (1000 * found[1]).round()],
        ),
    }


def image_in_torch(s: Scene, scores: Tensor, b: int, topk: int = 10) -> tuple[Tensor, Tensor]:
    gt = s.gt_boxes[b]
    inside = sides(s.centers, gt).amin(2) > 1e-9
    overlap = complete_iou_matrix(gt, s.boxes[b]).clamp_(min=0) * inside
    metric = scores[b][:, s.gt_labels[b]].t().sqrt() * overlap.pow(6) * inside
    best = metric.topk(topk, 1).indices
    taken = torch.zeros_like(inside).scatter_(1, best, True) & inside
    crowded = taken.sum(0) > 1
    most = torch.zeros_like(inside).scatter_(0, overlap.argmax(0, keepdim=True), True)
    taken = torch.where(crowded, most, taken)
    metric, overlap = metric * taken, overlap * taken
    score = (metric * overlap.amax(1, keepdim=True) / (metric.amax(1, keepdim=True) + 1e-9)).amax(0)
    return torch.where(taken.any(0), taken.int().argmax(0), -1), score

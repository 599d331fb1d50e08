"""SimOTA of one image and of a batch, beside YOLOX's rule in plain torch, which takes image by image."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo import ops
from leyolo.bench.ops.boxes import Scene, scene, scene_bytes
from leyolo.bench.ops.case import OURS, Case, Contestant, unequal_share
from leyolo.ops.assignment import iou_matrix, sides


def cases(size: str, imgsz: int) -> list[Case]:
    """Both rules, few to many objects; their decisions may differ where costs agree to the last digit."""
    shapes = [("main", 1, objects) for objects in (20, 50, 200, 1000)]
    shapes += [("v030", 1, objects) for objects in (20, 50, 200, 1000)]
    shapes += [("main", 8, 50)]
    return [
        Case(
            op="simota",
            name=f"{rule}, " + (f"{images} images, " if images > 1 else "") + f"{objects} objects",
            build=partial(_build, rule, images, objects, imgsz),
            bytes=scene_bytes(images, objects, imgsz),
            tolerance=1e-3,
            difference=unequal_share,
        )
        for rule, images, objects in shapes
    ]


def _build(rule: str, images: int, objects: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    s = scene(images, objects, imgsz)
    found = {
        OURS: Contestant(
            lambda: ops.simota_assign(
                *(s.cls_logits, s.obj_logits, s.boxes, s.gt_boxes, s.gt_labels, s.gt_counts, s.centers, s.strides),
                rule=rule,
                fmt="xyxy",
            ),
            lambda assignment: [assignment.gt_index],
        ),
        "torch, closed form": Contestant(lambda: in_torch(s, rule, closed=True)),
    }
    if not (rule == "v030" and objects >= 1000):  # 11 GB
        found["torch, as published"] = Contestant(lambda: in_torch(s, rule, closed=False))
    return found


def in_torch(s: Scene, rule: str, closed: bool) -> Tensor:
    return torch.stack([_image(s, b, rule, closed) for b in range(len(s.boxes))])


def _image(s: Scene, b: int, rule: str, closed: bool) -> Tensor:
    gt, labels = s.gt_boxes[b], s.gt_labels[b]
    middle = (gt[:, :2] + gt[:, 2:]) / 2
    radius = (1.5 if rule == "main" else 2.5) * s.strides[None, :, None]
    near = torch.cat([s.centers - (middle[:, None] - radius), middle[:, None] + radius - s.centers], 2).amin(2) > 0
    if rule == "main":
        candidate, related = near.any(0), near
    else:
        inside = sides(s.centers, gt).amin(2) > 0
        candidate, related = (near | inside).any(0), near & inside
    anchors = candidate.nonzero()[:, 0]
    iou = iou_matrix(gt, s.boxes[b, anchors], "xyxy")
    p = (s.cls_logits[b, anchors].sigmoid() * s.obj_logits[b, anchors, None].sigmoid()).sqrt()
    if closed:
        absent = (1 - p).log().clamp(min=-100)
        cost = (absent - p.log().clamp(min=-100))[:, labels].t() - absent.sum(1)
    else:
        target = F.one_hot(labels, p.shape[1]).float()[:, None].expand(-1, len(anchors), -1)
        cost = F.binary_cross_entropy(p.expand(len(gt), -1, -1), target, reduction="none").sum(2)
    cost = cost - 3 * (iou + 1e-8).log() + (1e6 if rule == "main" else 1e5) * ~related[:, anchors]
    wanted = iou.topk(min(10, len(anchors)), 1).values.sum(1).int().clamp(min=1).tolist()
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for g, k in enumerate(wanted):
        taken[g, cost[g].topk(k, largest=False).indices] = True
    crowded = (taken.sum(0) > 1).nonzero()[:, 0]
    if len(crowded):
        best = cost[:, crowded].argmin(0)
        taken[:, crowded] = False
        taken[best, crowded] = True
    result = torch.full((s.boxes.shape[1],), -1, device=s.boxes.device)
    result[anchors] = torch.where(taken.any(0), taken.int().argmax(0), -1)
    return result

"""OTA, beside the same Sinkhorn iterations in plain torch."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo import ops
from leyolo.bench.ops.boxes import Scene, scene, scene_bytes
from leyolo.bench.ops.case import OURS, Case, Contestant, unequal_share
from leyolo.ops.assignment import iou_matrix, sides

EPS, ITERATIONS = 0.1, 50


def cases(size: str, imgsz: int) -> list[Case]:
    """One image; plans that have not converged yet hang on rounding."""
    return [
        Case(
            op="ota",
            name=f"{objects} objects",
            build=partial(_build, objects, imgsz),
            bytes=scene_bytes(1, objects, imgsz),
            tolerance=1e-2,
            difference=unequal_share,
        )
        for objects in (20, 50, 200)
    ]


def _build(objects: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    s = scene(1, objects, imgsz)
    return {
        OURS: Contestant(
            lambda: ops.ota_assign(
                *(s.cls_logits, None, s.boxes, s.gt_boxes, s.gt_labels, s.gt_counts, s.centers, s.strides), fmt="xyxy"
            ),
            lambda assignment: [assignment.gt_index[0]],
        ),
        "torch": Contestant(lambda: image_in_torch(s)),
    }


def _focal(logits: Tensor, present: bool) -> Tensor:
    p = logits.sigmoid()
    return 0.25 * (1 - p).square() * F.softplus(-logits) if present else 0.75 * p.square() * F.softplus(logits)


def image_in_torch(s: Scene, b: int = 0) -> Tensor:
    gt, labels, logits, anchors = s.gt_boxes[b], s.gt_labels[b], s.cls_logits[b], len(s.centers)
    middle, radius = (gt[:, :2] + gt[:, 2:]) / 2, 2.5 * s.strides[None, :, None]
    near = torch.cat([s.centers - (middle[:, None] - radius), middle[:, None] + radius - s.centers], 2).amin(2) > 0
    central = near & (sides(s.centers, gt).amin(2) > 0.01)
    iou = iou_matrix(gt, s.boxes[b], "xyxy")
    absent = _focal(logits, False)
    background = absent.sum(1)
    cost = (_focal(logits, True) - absent)[:, labels].t() + background
    cost = cost - 1.5 * iou.clamp(min=torch.finfo(torch.float32).eps).log() + 1e6 * ~central
    cost = torch.cat([cost, background[None]])
    supply = (iou * central).topk(20, 1).values.sum(1).int().clamp(min=1)
    mu = torch.cat([supply, (anchors - supply.sum()).clamp(min=0)[None]]).float()
    u, v = torch.ones_like(mu), torch.ones_like(background)
    for _ in range(ITERATIONS):
        v = v - EPS * ((u[:, None] + v - cost) / EPS).logsumexp(0)
        u = u + EPS * ((mu + 1e-8).log() - ((u[:, None] + v - cost) / EPS).logsumexp(1))
    share = (u[:, None] + v - cost) / EPS
    owner = (share - share.amax(1, keepdim=True)).argmax(0)
    return torch.where(owner < len(gt), owner, -1)

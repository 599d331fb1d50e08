"""The assigners side by side on one picture, and what they give to whom."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from leyolo.errors import UsageError, nearest
from leyolo.explain.scene import Scene
from leyolo.ops import Assignment, fcos_assign, simota_assign
from leyolo.train.assign import assign, check_assigner

TITLES = {"fcos": "FCOS", "simota": "SimOTA", "simota-v030": "SimOTA 0.3.0", "ota": "OTA", "tal": "TAL"}
"""Names on the command line, and in pictures."""

ASKING = ("simota", "simota-v030", "ota")
"""Those whose ``dynamic_k`` is what an object asks for; that of the others is what it got."""


def chosen(names: str | None, head: str) -> list[str]:
    """The assigners that ``names`` lists by comma; None: those that go with the head.

    Raises:
        UsageError: there is no such assigner, or it does not go with the head.
    """
    if names is None:
        return ["fcos", "simota", "ota", *(["tal"] if head == "leyolo" else [])]
    found = list(dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip()))
    for name in found:
        if name not in TITLES:
            raise UsageError(f"--assigner must list some of {', '.join(TITLES)}, got {name!r}.{nearest(name, TITLES)}")
        if name == "tal":
            check_assigner(name, head)
    if not found:
        raise UsageError(f"--assigner must list some of {', '.join(TITLES)}, got none")
    return found


def run(name: str, scene: Scene) -> Assignment:
    """One assigner on a scene, with the settings that training has. FCOS, which training does not offer, takes its
    paper's (arXiv 1904.01355, section 3.2): within 1.5 strides of the centre, sides of up to 8 strides on each level,
    of any length on the last."""
    targets, points = scene.targets, scene.points
    if name == "fcos":
        levels = list(dict.fromkeys(points.strides.tolist()))
        edges = [0.0, *(8 * stride for stride in levels[:-1]), float("inf")]
        ranges = list(pairwise(edges))
        return fcos_assign(targets.boxes, targets.labels, targets.counts, *points, ranges=ranges, fmt="xyxy")
    if name == "simota-v030":
        truth = targets.boxes, targets.labels, targets.counts
        return simota_assign(scene.cls_logits, scene.obj_logits, scene.boxes, *truth, *points, rule="v030", fmt="xyxy")
    return assign(name, scene.cls_logits, scene.obj_logits, scene.boxes, targets, points)


@dataclass(frozen=True)
class Share:
    """What one object gets.

    asked     anchors that it asked for; None where the assigner has no such number
    anchors   positions of the anchors that it got
    levels    how many of them at each stride
    iou       mean IoU of their predicted boxes with the object; None without anchors
    """

    asked: int | None
    anchors: tuple[int, ...]
    levels: dict[int, int]
    iou: float | None


def shares(name: str, scene: Scene, assignment: Assignment) -> list[Share]:
    """One for each object, in order."""
    owner = assignment.gt_index[0]
    found = []
    for number in range(len(scene.names)):
        anchors = (owner == number).nonzero()[:, 0]
        strides = scene.points.strides[anchors].long()
        asked = int(assignment.dynamic_k[0, number]) if name in ASKING else None
        levels = {stride: int((strides == stride).sum()) for stride in scene.levels}
        iou = float(overlaps(scene, number)[anchors].mean()) if len(anchors) else None
        found.append(Share(asked, tuple(anchors.tolist()), levels, iou))
    return found


def overlaps(scene: Scene, number: int) -> torch.Tensor:
    """IoU of every predicted box with an object, float32 [A]."""
    from leyolo.ops import box_iou

    return box_iou(scene.targets.boxes[0, number : number + 1], scene.boxes[0])[0]


def agreement(a: Assignment, b: Assignment) -> tuple[int, int]:
    """Anchors that both give to the same object, and anchors that either gives to any: their ratio is the agreement."""
    mine, theirs = a.gt_index, b.gt_index
    same = int(((mine == theirs) & (mine >= 0)).sum())
    return same, int(((mine >= 0) | (theirs >= 0)).sum())

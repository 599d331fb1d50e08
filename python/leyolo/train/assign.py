"""Which anchors learn which object: three assigners behind one name."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from leyolo.data.batch import Targets
from leyolo.errors import UsageError, nearest
from leyolo.geometry import anchor_points
from leyolo.ops import Assignment, ota_assign, simota_assign, tal_assign

ASSIGNERS: dict[str, tuple[str, ...]] = {"leyolo": ("tal", "simota", "ota"), "yolox": ("simota", "ota")}
"""The assigners of each head, the default first. TAL scores classes without an objectness, which YOLOX has."""


class Anchors(NamedTuple):
    """Anchor points of all levels: ``centers`` float32 [A, 2] and ``strides`` float32 [A], in pixels."""

    centers: Tensor
    strides: Tensor


@lru_cache(maxsize=32)
def anchors(height: int, width: int, strides: tuple[int, ...], device: torch.device | str = "cpu") -> Anchors:
    """The anchors of a network input of ``height`` x ``width`` pixels."""
    return Anchors(*(torch.from_numpy(a).to(device) for a in anchor_points(height, width, strides)))


def check_assigner(name: str | None, head: str) -> str:
    """``name`` if it goes with the head, the head's default for None, else UsageError."""
    known = ASSIGNERS[head]
    if name is None:
        return known[0]
    if name not in known:
        raise UsageError(
            f"assigner must be one of {', '.join(known)} with the {head} head, got {name!r}.{nearest(name, known)}"
        )
    return name


@torch.no_grad()
def assign(
    name: str, cls_logits: Tensor, obj_logits: Tensor | None, boxes: Tensor, targets: Targets, points: Anchors
) -> Assignment:
    """Assigns ground truths to anchors.

    Args:
        name: tal, simota or ota.
        cls_logits: [B, A, C]. obj_logits: [B, A], or None for a head without objectness.
        boxes: [B, A, 4] predicted boxes, xyxy in pixels.
        targets: ground truths in pixels of the network input.
        points: the anchors.

    Returns:
        The :class:`Assignment`; ``score`` is what the class score should become (the IoU under simota and ota).
    """
    cls_logits, boxes = cls_logits.detach().float(), boxes.detach().float()
    truth = targets.boxes, targets.labels, targets.counts
    if name == "tal":
        return tal_assign(cls_logits.sigmoid(), boxes, *truth, points.centers)
    function = simota_assign if name == "simota" else ota_assign
    obj_logits = None if obj_logits is None else obj_logits.detach().float()
    return function(cls_logits, obj_logits, boxes, *truth, *points, fmt="xyxy")

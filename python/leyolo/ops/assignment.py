"""The result of every label assigner, and what their Python sides share."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from leyolo.ops._library import call


class Assignment(NamedTuple):
    """Which anchors learn which ground truth; B images, A anchors, G padded ground truths."""

    gt_index: Tensor
    """int64 [B, A]: the ground truth of each anchor, -1 on background."""
    iou: Tensor
    """float32 [B, A]: overlap of the prediction with its ground truth, 0 on background."""
    score: Tensor
    """float32 [B, A]: target of the class score at the ground truth's class, 0 on background."""
    num_fg: Tensor
    """int64 [B]: foreground anchors of each image."""
    dynamic_k: Tensor
    """int64 [B, G]: anchors that each ground truth asked for (TAL, FCOS: got), 0 on padding."""


def contiguous(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Row-major copies of those that are not row-major yet."""
    return tuple(None if t is None else t.contiguous() for t in tensors)


def call_assigner(op: Any, tensors: tuple[Tensor | None, ...], *rest: Any) -> Any:
    """Calls an assigner's operator; decisions have no gradient."""
    with torch.no_grad():
        return call(op, contiguous(*tensors), *rest)


def fake_assignment(like: Tensor, images: Any, anchors: Any, targets: Any) -> tuple[Tensor, ...]:
    """For fake kernels: what the C++ side allocates."""

    def empty(*shape: Any, dtype: torch.dtype) -> Tensor:
        return like.new_empty(shape, dtype=dtype)

    return (
        empty(images, anchors, dtype=torch.int64),
        empty(images, anchors, dtype=torch.float32),
        empty(images, anchors, dtype=torch.float32),
        empty(images, dtype=torch.int64),
        empty(images, targets, dtype=torch.int64),
    )


def box_corners(boxes: Tensor, fmt: str) -> Tensor:
    """For references: [N, 4] boxes of either format as float32 corners."""
    boxes = boxes.float()
    if fmt == "xyxy":
        return boxes
    half = boxes[:, 2:] * 0.5
    return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1)


def box_sizes(boxes: Tensor, fmt: str) -> Tensor:
    """For references: widths and heights [N, 2]."""
    boxes = boxes.float()
    return boxes[:, 2:] - boxes[:, :2] if fmt == "xyxy" else boxes[:, 2:]


def iou_matrix(targets: Tensor, boxes: Tensor, fmt: str) -> Tensor:
    """For references: IoU [G, N] without an epsilon; 0 where it is not a number."""
    a, b = box_corners(targets, fmt)[:, None], box_corners(boxes, fmt)[None]
    size = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    inter = size.prod(-1) * (size > 0).all(-1)
    areas = box_sizes(targets, fmt).prod(-1)[:, None] + box_sizes(boxes, fmt).prod(-1)[None]
    return (inter / (areas - inter)).nan_to_num(nan=0.0)


def sides(centers: Tensor, corners: Tensor) -> Tensor:
    """For references: distances [G, A, 4] of every centre to left, top, right and bottom of every box."""
    low = centers[None] - corners[:, None, :2]
    return torch.cat([low, corners[:, None, 2:] - centers[None]], 2)


def stable_smallest(values: Tensor, count: int) -> Tensor:
    """For references: indices of the smallest entries, equal ones in order."""
    return torch.sort(values, stable=True).indices[:count]

"""Non-maximum suppression with torchvision's results."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from leyolo.ops._library import call, library, register_fake


def nms_reference(boxes: Tensor, scores: Tensor, iou_threshold: float, idxs: Tensor | None = None) -> Tensor:
    """The same in plain torch, one kept box at a time."""
    wide = boxes.double() if boxes.dtype == torch.float64 else boxes.float()
    area = (wide[:, 2] - wide[:, 0]) * (wide[:, 3] - wide[:, 1])
    rest = torch.sort(scores, descending=True, stable=True).indices
    kept: list[int] = []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        low = torch.maximum(wide[best, :2], wide[rest, :2])
        high = torch.minimum(wide[best, 2:], wide[rest, 2:])
        size = (high - low).clamp(min=0)
        inter = size[:, 0] * size[:, 1]
        iou = inter / (area[best] + area[rest] - inter)
        suppressed = iou.double() > iou_threshold
        if idxs is not None:
            suppressed &= idxs[rest] == idxs[best]
        rest = rest[~suppressed]
    return torch.tensor(kept, dtype=torch.int64)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS: drops a box whose IoU with a kept one of higher score is strictly above ``iou_threshold``.

    Args:
        boxes: [N, 4] (x1, y1, x2, y2), float32, float16 or bfloat16 (IoU in float32), or float64.
        scores: [N], dtype of ``boxes``.
        iou_threshold: compared as a double, as torchvision does.

    Returns:
        int64 [K]: indices of the kept boxes in descending order of score; on ties the lower index comes first.

    A drop-in for ``torchvision.ops.nms``. K depends on the data: see :func:`nms_padded` for fixed shapes.
    """
    kept: Tensor = call(library.nms, (boxes.detach().contiguous(), scores.detach().contiguous(), None), iou_threshold)
    return kept


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """:func:`nms` within each class: boxes of different ``idxs`` [N] (any integers) never suppress each other.

    A drop-in for ``torchvision.ops.batched_nms``; the classes are compared, so no coordinate is shifted and rounded.
    """
    tensors = boxes.detach().contiguous(), scores.detach().contiguous(), idxs.to(torch.int64).contiguous()
    kept: Tensor = call(library.nms, tensors, iou_threshold)
    return kept


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    *,
    iou_threshold: float,
    max_det: int,
    score_threshold: float = -math.inf,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """NMS of a batch with fixed output shapes: no host synchronisation, compiles without a graph break.

    Args:
        boxes: [B, N, 4] (x1, y1, x2, y2).
        scores: [B, N], dtype of ``boxes``.
        labels: int64 [B, N]: boxes of different classes never suppress each other; None: one class.
        iou_threshold: a box is dropped when its IoU with a kept one is strictly above it.
        max_det: boxes kept per image at most, the best ones.
        score_threshold: only boxes with a score strictly above it take part; -inf: all, NaN included.
        counts: int64 [B]: only the first ``counts[b]`` boxes of an image take part; None: all.

    Returns:
        indices int64 [B, max_det] in descending order of score, -1 after the last; kept int64 [B].
    """
    labels = None if labels is None else labels.to(torch.int64)
    tensors = boxes.detach().contiguous(), scores.detach().contiguous(), labels
    indices, kept = call(library.nms_padded, tensors, iou_threshold, max_det, score_threshold, counts)
    return indices, kept


@register_fake("nms")
def _(boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size(min=0)
    return boxes.new_empty(kept, dtype=torch.int64)


@register_fake("nms_padded")
def _(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    iou_threshold: float,
    max_det: int,
    score_threshold: float,
    counts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    indices = boxes.new_empty(boxes.shape[0], max_det, dtype=torch.int64)
    return indices, boxes.new_empty(boxes.shape[0], dtype=torch.int64)

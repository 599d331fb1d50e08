"""Greedy non-maximum suppression with torchvision's results."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from leyolo.ops._library import call, library, register_fake
from leyolo.ops.box_iou import box_iou_reference


def nms_reference(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """The same in plain torch: N x N memory and a Python loop over the boxes."""
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes, scores = boxes.float(), scores.float()
    order = scores.sort(descending=True, stable=True).indices
    # In float64, where a float32 IoU is exact: the threshold itself is not rounded.
    above = box_iou_reference(boxes[order], boxes[order]).double() > iou_threshold
    if labels is not None:
        above &= labels[order][:, None] == labels[order]
    suppressed = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
    kept = []
    for i in range(len(order)):
        if not suppressed[i]:
            kept.append(i)
            suppressed |= above[i]
    return order[kept]


def nms_padded_reference(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    *,
    iou_threshold: float,
    max_det: int,
    score_threshold: float = -math.inf,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same in plain torch, image by image."""
    indices = torch.full((len(boxes), max_det), -1, dtype=torch.int64, device=boxes.device)
    kept = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    for b in range(len(boxes)):
        take = torch.arange(boxes.shape[1], device=boxes.device)
        if counts is not None:
            take = take[: max(int(counts[b]), 0)]
        if score_threshold > -math.inf:
            take = take[scores[b, take].float() > score_threshold]
        found = nms_reference(
            boxes[b, take], scores[b, take], iou_threshold, None if labels is None else labels[b, take]
        )
        found = take[found][:max_det]
        indices[b, : len(found)] = found
        kept[b] = len(found)
    return indices, kept


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that no better kept box overlaps, by descending score.

    Args:
        boxes: [N, 4], xyxy in pixels; float32, float16 and bfloat16 (computed in float32) or float64.
        scores: [N], dtype of ``boxes``.
        iou_threshold: a box is dropped when its IoU with a kept box of higher score is above this (strictly).

    Returns:
        int64 [K]. On equal scores the lower index comes first; NaN scores come before all others; a NaN IoU (two empty
        boxes) never drops a box. The results of ``torchvision.ops.nms`` on the CPU, bit for bit.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit; the text says what was expected and what came.

    On CUDA the size of the result has to reach the host; ``nms_padded`` avoids that.
    """
    indices: Tensor = call(library.nms, (boxes.contiguous(), scores.contiguous()), None, iou_threshold)
    return indices


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """``nms`` within each class: boxes of different ``idxs`` never drop each other.

    Args:
        boxes, scores, iou_threshold: as for ``nms``.
        idxs: int64 [N] (or int32), any values.

    Returns:
        int64 [K], by descending score over all classes. Classes are compared, not shifted apart by an offset added to
        the coordinates, so that the result does not depend on how large the coordinates are.

    Raises:
        ValueError: as for ``nms``.
    """
    indices: Tensor = call(library.nms, (boxes.contiguous(), scores.contiguous(), _labels(idxs)), iou_threshold)
    return indices


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
    """``nms`` (``batched_nms`` with ``labels``) of a batch, into an output of fixed size.

    Args:
        boxes: [B, N, 4], xyxy in pixels; dtypes as for ``nms``.
        scores: [B, N], dtype of ``boxes``.
        labels: int64 [B, N] (or int32), any values; None: one class.
        iou_threshold: as for ``nms``.
        max_det: kept boxes per image at most.
        score_threshold: boxes take part when their score is above this (strictly, so NaN scores do not); with minus
            infinity all do.
        counts: int64 [B]: only the first ``counts[b]`` boxes of an image take part (clamped to 0 .. N); None: all.

    Returns:
        ``indices`` int64 [B, max_det], by descending score, -1 after the last; ``kept`` int64 [B], their number.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit; the text says what was expected and what came.
    """
    indices: Tensor
    kept: Tensor
    indices, kept = call(
        library.nms_padded,
        (boxes.contiguous(), scores.contiguous()),
        None if labels is None else _labels(labels),
        None if counts is None else counts.to(torch.int64).contiguous(),
        iou_threshold,
        max_det,
        score_threshold,
    )
    return indices, kept


def _labels(labels: Tensor) -> Tensor:
    return (labels.long() if labels.dtype == torch.int32 else labels).contiguous()


@register_fake("nms")
def _(boxes: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@register_fake("nms_padded")
def _(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    counts: Tensor | None,
    iou_threshold: float,
    max_det: int,
    score_threshold: float,
) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(boxes.shape[0], max_det, dtype=torch.int64), boxes.new_empty(
        boxes.shape[0], dtype=torch.int64
    )

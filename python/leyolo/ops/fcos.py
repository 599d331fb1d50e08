"""FCOS label assignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leyolo.ops._library import library, register_fake
from leyolo.ops.assignment import Assignment, box_corners, box_sizes, call_assigner, fake_assignment, sides

Ranges = Tensor | Sequence[Sequence[float]]


def fcos_reference(
    gt_boxes: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    radius: float = 1.5,
    ranges: Ranges | None = None,
    fmt: str = "xyxy",
) -> Tensor:
    """``gt_index`` [A] of one image in plain torch."""
    gt_index = torch.full((len(centers),), -1, device=centers.device)
    centers, corners = centers.float(), box_corners(gt_boxes, fmt)
    middle = (corners[:, :2] + corners[:, 2:]) * 0.5 if fmt == "xyxy" else gt_boxes[:, :2].float()
    reach = radius * strides.float()[None, :, None]
    near = (torch.cat([centers - (middle[:, None] - reach), (middle[:, None] + reach) - centers], 2) > 0).all(2)
    distances = sides(centers, corners)
    takes = near & (distances > 0).all(2)
    if ranges is not None:
        rows = torch.as_tensor(ranges).float()
        levels = list(dict.fromkeys(strides.tolist()))
        low, high = rows[[levels.index(s) for s in strides.tolist()]].unbind(1)
        largest = distances.amax(2)
        takes &= (largest >= low) & (largest <= high)
    area = box_sizes(gt_boxes, fmt).prod(1)[:, None].expand(takes.shape)
    if len(gt_boxes):
        smallest = area.masked_fill(~takes, torch.inf).sort(dim=0, stable=True)
        gt_index = torch.where(takes.any(0), smallest.indices[0], gt_index)
    return gt_index


def fcos_assign(
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    radius: float = 1.5,
    ranges: Ranges | None = None,
    fmt: str = "xyxy",
) -> Assignment:
    """Labels the anchors of a batch as FCOS does, with centre sampling (arXiv:1904.01355).

    An anchor belongs to a ground truth if its centre lies strictly inside the box and within ``radius`` strides of the
    box's centre on both axes; of several, to the one of smallest area (ties: the lower index).

    Args:
        gt_boxes: [B, G, 4] pixels, in the format ``fmt``; float32, float16 or bfloat16.
        gt_labels: [B, G] int64 or int32 (not looked at).
        gt_counts: [B] int64 or int32: the first ``gt_counts[b]`` rows are real, the rest may hold anything.
        centers: [A, 2] anchor centres in pixels.
        strides: [A] pixels.
        radius: half side of the square around the box's centre, in strides.
        ranges: [levels, 2]: on each level the largest distance from centre to side lies in [low, high], as in the
            paper with both ends. A level is what shares a stride, in order of appearance. None: any distance.
        fmt: "xyxy" or "cxcywh".

    Returns:
        Assignment; no predictions take part, so ``iou`` and ``score`` are 1 on foreground; ``dynamic_k`` is how many
        anchors a ground truth got.

    Raises:
        ValueError: shapes, dtypes or counts that do not fit; the text says what was expected and what came.
            On a GPU counts are not looked at, which would stop the stream, but clamped to [0, G]; and a stride without
            a range takes nothing.
    """
    if ranges is not None and not isinstance(ranges, Tensor):
        ranges = torch.tensor(ranges, dtype=torch.float32, device=gt_boxes.device)
    with_ranges = None if ranges is None else ranges.contiguous()
    return Assignment(
        *call_assigner(
            library.fcos_assign, (gt_boxes, gt_labels, gt_counts, centers, strides), radius, with_ranges, fmt
        )
    )


@register_fake("fcos_assign")
def _(
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    radius: float,
    ranges: Tensor | None,
    fmt: str,
) -> tuple[Tensor, ...]:
    return fake_assignment(gt_boxes, gt_boxes.shape[0], centers.shape[0], gt_boxes.shape[1])

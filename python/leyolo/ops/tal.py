"""Task-aligned label assignment."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from leyolo.ops._library import library, register_fake
from leyolo.ops.assignment import (
    Assignment,
    box_corners,
    call_assigner,
    fake_assignment,
    iou_matrix,
    sides,
    stable_smallest,
)


def complete_iou_matrix(targets: Tensor, boxes: Tensor, eps: float = 1e-7) -> Tensor:
    """For the reference: complete IoU [G, A] of corner boxes; heights carry an epsilon, widths do not."""
    g, p = targets[:, None], boxes[None]
    (gw, gh), (pw, ph) = (((t[..., 2:] - t[..., :2]).unbind(-1)) for t in (g, p))
    gh, ph = gh + eps, ph + eps
    size = (torch.minimum(g[..., 2:], p[..., 2:]) - torch.maximum(g[..., :2], p[..., :2])).clamp(min=0)
    inter = size.prod(-1)
    iou = inter / (gw * gh + pw * ph - inter + eps)
    hull = torch.maximum(g[..., 2:], p[..., 2:]) - torch.minimum(g[..., :2], p[..., :2])
    distance = (p[..., :2] + p[..., 2:] - g[..., :2] - g[..., 2:]).square().sum(-1) / 4
    v = 4 / math.pi**2 * ((pw / ph).atan() - (gw / gh).atan()).square()
    return iou - (distance / (hull.square().sum(-1) + eps) + v * v / (v - iou + 1 + eps))


def tal_reference(
    scores: Tensor,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    centers: Tensor,
    *,
    topk: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
    eps: float = 1e-9,
    fmt: str = "xyxy",
) -> tuple[Tensor, Tensor, Tensor]:
    """``gt_index`` [A], ``iou`` [A] and ``score`` [A] of one image in plain torch, in float64."""
    targets, anchors = len(gt_boxes), len(boxes)
    gt_index = torch.full((anchors,), -1)
    if targets == 0 or anchors == 0:
        return gt_index, torch.zeros(anchors), torch.zeros(anchors)
    corners, predicted = box_corners(gt_boxes, fmt), box_corners(boxes, fmt)
    inside = (sides(centers.float(), corners) > 1e-9).all(2)
    overlap = complete_iou_matrix(corners.double(), predicted.double()).nan_to_num(nan=0.0).clamp(min=0) * inside
    metric = scores.double()[:, gt_labels].T ** alpha * overlap**beta
    inside &= ~metric.isnan()
    metric = torch.where(inside, metric, 0.0)
    marked = torch.zeros(targets, anchors, dtype=torch.bool)
    for g in range(targets):
        marked[g, stable_smallest(-metric[g], topk)] = True
    marked &= inside
    for j in marked.any(0).nonzero()[:, 0].tolist():
        takers = marked[:, j].nonzero()[:, 0]
        gt_index[j] = takers[0] if len(takers) == 1 else stable_smallest(-overlap[:, j], 1)[0]
    mine = gt_index == torch.arange(targets)[:, None]
    best_overlap, best_metric = ((t * mine).amax(1, keepdim=True) for t in (overlap, metric))
    score = (metric * mine * best_overlap / (best_metric + eps)).amax(0)
    iou = (iou_matrix(gt_boxes, boxes, fmt) * mine).amax(0)
    return gt_index, iou, score.float()


def tal_assign(
    scores: Tensor,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    *,
    topk: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
    eps: float = 1e-9,
    fmt: str = "xyxy",
) -> Assignment:
    """Labels the anchors of a batch by task alignment (TOOD, arXiv:2108.07755; as Ultralytics 8.1 and LeYOLO train).

    Every ground truth takes the ``topk`` anchors inside it with the largest ``score^alpha * CIoU^beta``; an anchor
    taken more than once goes to the ground truth of largest CIoU. Ties: the lower anchor, the lower ground truth. Where
    fewer than ``topk`` anchors have a positive value, the picks go on among the zeros of the whole image, and those
    inside the ground truth become foreground with score 0.

    Args:
        scores: [B, A, C] probabilities; float32, float16 or bfloat16 (as are all other floats; everything is computed
            in float32).
        boxes: [B, A, 4] predicted boxes in pixels, in the format ``fmt``.
        gt_boxes: [B, G, 4] pixels, in the format ``fmt``.
        gt_labels: [B, G] int64 or int32, 0 <= label < C.
        gt_counts: [B] int64 or int32: the first ``gt_counts[b]`` rows are real, the rest may hold anything.
        centers: [A, 2] anchor centres in pixels.
        topk: anchors that a ground truth takes at most.
        alpha, beta: exponents of score and overlap, not negative.
        eps: keeps the normalisation from dividing by zero.
        fmt: "xyxy" or "cxcywh".

    Returns:
        Assignment; ``score`` is the metric scaled so that each ground truth's best anchor gets its largest CIoU,
        ``iou`` the plain IoU, ``dynamic_k`` the anchors that a ground truth got in the end.

    Raises:
        ValueError: shapes, dtypes, labels or counts that do not fit; the text says what was expected and what came.
            On a GPU labels and counts are not looked at, which would stop the stream: counts are clamped to [0, G],
            and a ground truth whose label is none of the classes takes no part.

    NaN never matches. Not differentiable.
    """
    return Assignment(
        *call_assigner(
            library.tal_assign,
            (scores, boxes, gt_boxes, gt_labels, gt_counts, centers),
            *(topk, alpha, beta, eps, fmt),
        )
    )


@register_fake("tal_assign")
def _(
    scores: Tensor,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    topk: int,
    alpha: float,
    beta: float,
    eps: float,
    fmt: str,
) -> tuple[Tensor, ...]:
    return fake_assignment(scores, boxes.shape[0], boxes.shape[1], gt_boxes.shape[1])

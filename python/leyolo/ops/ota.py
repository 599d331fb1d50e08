"""Optimal transport label assignment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo.ops._library import library, register_fake
from leyolo.ops.assignment import Assignment, box_corners, call_assigner, fake_assignment, iou_matrix, sides


def _focal(logits: Tensor, present: Tensor) -> Tensor:
    p = logits.sigmoid()
    loss = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
    wrong = torch.where(present > 0, 1 - p, p)
    return torch.where(present > 0, 0.25, 0.75) * wrong.square() * loss


def ota_reference(
    cls_logits: Tensor,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    eps: float = 0.1,
    iterations: int = 50,
    topk: int = 20,
    fmt: str = "cxcywh",
) -> tuple[Tensor, Tensor, Tensor]:
    """``gt_index`` [A], ``iou`` [A] and ``dynamic_k`` [G] of one image in plain torch, transport in float64."""
    targets, (anchors, classes) = len(gt_boxes), cls_logits.shape
    if targets == 0 or anchors == 0:
        return torch.full((anchors,), -1), torch.zeros(anchors), torch.zeros(targets, dtype=torch.int64)
    centers, corners = centers.float(), box_corners(gt_boxes, fmt)
    middle = (corners[:, :2] + corners[:, 2:]) * 0.5 if fmt == "xyxy" else gt_boxes[:, :2].float()
    radius = 2.5 * strides.float()[None, :, None]
    near = (torch.cat([centers - (middle[:, None] - radius), (middle[:, None] + radius) - centers], 2) > 0).all(2)
    central = near & (sides(centers, corners) > 0.01).all(2)
    iou = iou_matrix(gt_boxes, boxes, fmt)
    logits = cls_logits.double()
    kinds, which = torch.unique(gt_labels, return_inverse=True)
    cls = [_focal(logits, onehot.expand_as(logits)).sum(1) for onehot in F.one_hot(kinds, classes).double()]
    least = torch.finfo(torch.float32).eps
    cost = torch.stack(cls)[which] + 1.5 * -iou.double().clamp(min=least).log() + 1e6 * ~central
    background = _focal(logits, torch.zeros_like(logits)).sum(1)
    cost = torch.cat([cost, background[None]]) / eps  # the unit of all that follows
    k = (iou * central).topk(min(topk, anchors), 1).values.sum(1).long().clamp(min=1)
    mu = torch.cat([k, (anchors - k.sum()).clamp(min=0)[None]]).double()
    u = torch.full((targets + 1, 1), 1 / eps, dtype=torch.float64)
    for _ in range(iterations):
        v = -(u - cost).logsumexp(0)
        u = (mu + 1e-8).log()[:, None] - (v - cost).logsumexp(1, keepdim=True)
    share = u + v - cost
    owner = (share - share.amax(1, keepdim=True)).argmax(0)  # the first of equal ones
    gt_index = torch.where(owner < targets, owner, -1)
    matched = iou.gather(0, gt_index.clamp(min=0)[None])[0]
    return gt_index, torch.where(gt_index >= 0, matched, 0.0), k


def ota_assign(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    eps: float = 0.1,
    iterations: int = 50,
    topk: int = 20,
    fmt: str = "cxcywh",
) -> Assignment:
    """Labels the anchors of a batch by optimal transport (OTA, arXiv:2103.14259).

    Ground truths supply as many positives as the IoUs of their central anchors sum up to, the background supplies the
    rest, every anchor demands one; the cost is focal loss + 1.5 * -log(iou), with 1e6 on top off the centre. Sinkhorn's
    iterations find the plan, and an anchor goes to the supplier of its largest share. Ties: the lower ground truth.

    Args:
        cls_logits: [B, A, C] float32, float16 or bfloat16 (as are all other floats; everything is computed in float32).
        obj_logits: takes no part in OTA's cost; here so that the call is that of :func:`simota_assign`.
        boxes: [B, A, 4] predicted boxes in pixels, in the format ``fmt``.
        gt_boxes: [B, G, 4] pixels, in the format ``fmt``.
        gt_labels: [B, G] int64 or int32, 0 <= label < C.
        gt_counts: [B] int64 or int32: the first ``gt_counts[b]`` rows are real, the rest may hold anything.
        centers: [A, 2] anchor centres in pixels.
        strides: [A] pixels.
        eps: weight of the entropy; smaller is sharper and slower to converge.
        iterations: of Sinkhorn's algorithm; there is no stop test.
        topk: how many of the largest IoUs are summed for ``dynamic_k``.
        fmt: "cxcywh" or "xyxy".

    Returns:
        Assignment; ``score`` is ``iou``, ``dynamic_k`` is the supply of each ground truth.

    Raises:
        ValueError: shapes, dtypes, labels or counts that do not fit; the text says what was expected and what came.
            On a GPU labels and counts are not looked at, which would stop the stream: counts are clamped to [0, G],
            and a ground truth whose label is none of the classes takes no part.

    An anchor with a logit of NaN or +infinity is background. Scratch memory: one image's costs, (G + 1) * A
    floats. Not differentiable.
    """
    return Assignment(
        *call_assigner(
            library.ota_assign,
            (cls_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides),
            *(eps, iterations, topk, fmt),
        )
    )


@register_fake("ota_assign")
def _(
    cls_logits: Tensor,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    eps: float,
    iterations: int,
    topk: int,
    fmt: str,
) -> tuple[Tensor, ...]:
    return fake_assignment(cls_logits, boxes.shape[0], boxes.shape[1], gt_boxes.shape[1])

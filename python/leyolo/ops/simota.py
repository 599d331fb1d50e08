"""SimOTA label assignment."""

from __future__ import annotations

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


def simota_cost_reference(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    rule: str = "main",
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    fmt: str = "cxcywh",
) -> tuple[Tensor, Tensor, Tensor]:
    """Costs and IoUs [G, A] and the candidate mask [A] of one image in plain torch."""
    centers, corners = centers.float(), box_corners(gt_boxes, fmt)
    middle = (corners[:, :2] + corners[:, 2:]) * 0.5 if fmt == "xyxy" else gt_boxes[:, :2].float()
    radius = (1.5 if rule == "main" else 2.5) * strides.float()[None, :, None]
    near = (torch.cat([centers - (middle[:, None] - radius), (middle[:, None] + radius) - centers], 2) > 0).all(2)
    inside = (sides(centers, corners) > 0).all(2)
    candidate, related = (near, near) if rule == "main" else (near | inside, near & inside)
    iou = iou_matrix(gt_boxes, boxes, fmt)
    p = cls_logits.float().sigmoid()
    if obj_logits is not None:
        p = (p * obj_logits.float().sigmoid()[:, None]).sqrt()
    kinds, which = torch.unique(gt_labels, return_inverse=True)
    positive = torch.arange(cls_logits.shape[1]) == kinds[:, None, None]
    chosen = torch.where(positive, p, 1 - p)  # [kinds, A, C]
    cls = -chosen.log().clamp(min=-100).double().sum(2)
    cost = cls_weight * cls.float()[which] + iou_weight * -(iou + 1e-8).log()
    cost = cost + (1e6 if rule == "main" else 1e5) * ~related
    mask = candidate.any(0)
    return cost.nan_to_num(nan=torch.inf).masked_fill(~mask, torch.inf), iou * mask, mask


def simota_reference(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    rule: str = "main",
    topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    fmt: str = "cxcywh",
) -> tuple[Tensor, Tensor, Tensor]:
    """``gt_index`` [A], ``iou`` [A] and ``dynamic_k`` [G] of one image in plain torch."""
    weights = {"iou_weight": iou_weight, "cls_weight": cls_weight}
    cost, iou, mask = simota_cost_reference(
        cls_logits, obj_logits, boxes, gt_boxes, gt_labels, centers, strides, rule=rule, fmt=fmt, **weights
    )
    targets, anchors = cost.shape
    gt_index = torch.full((anchors,), -1)
    most = min(topk, int(mask.sum()))
    if targets == 0 or most == 0:
        return gt_index, torch.zeros(anchors), torch.ones(targets, dtype=torch.int64)
    k = iou[:, mask].topk(most, 1).values.sum(1).long().clamp(1, most)
    marked = torch.zeros(targets, anchors, dtype=torch.bool)
    for g in range(targets):
        marked[g, stable_smallest(cost[g], int(k[g]))] = True
    marked &= cost < torch.inf
    for j in marked.any(0).nonzero()[:, 0].tolist():
        takers = marked[:, j].nonzero()[:, 0]
        gt_index[j] = takers[0] if len(takers) == 1 else stable_smallest(cost[:, j], 1)[0]
    matched = iou.gather(0, gt_index.clamp(min=0)[None])[0]
    return gt_index, torch.where(gt_index >= 0, matched, 0.0), k


def simota_assign(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    rule: str = "main",
    topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    fmt: str = "cxcywh",
) -> Assignment:
    """Labels the anchors of a batch with SimOTA (YOLOX, arXiv:2107.08430).

    Every ground truth takes the ``dynamic_k`` candidates of least cost, where the cost is
    ``cls_weight * BCE(p, onehot) + iou_weight * -log(iou + 1e-8)`` plus a penalty off the centre; an anchor taken more
    than once goes to the ground truth of least cost. Ties: the lower anchor, the lower ground truth.

    Args:
        cls_logits: [B, A, C] float32, float16 or bfloat16 (as are all other floats; everything is computed in float32).
        obj_logits: [B, A]; p = sqrt(sigmoid(cls) * sigmoid(obj)). None: p = sigmoid(cls).
        boxes: [B, A, 4] predicted boxes in pixels, in the format ``fmt``.
        gt_boxes: [B, G, 4] pixels, in the format ``fmt``.
        gt_labels: [B, G] int64 or int32, 0 <= label < C.
        gt_counts: [B] int64 or int32: the first ``gt_counts[b]`` rows are real, the rest may hold anything.
        centers: [A, 2] anchor centres in pixels.
        strides: [A] pixels.
        rule: "main" (candidates within 1.5 strides of a centre; YOLOX since January 2023) or "v030" (inside a box or
            within 2.5 strides; the releases 0.1.0 to 0.3.0, mmdetection).
        topk: how many of the largest IoUs are summed for ``dynamic_k``.
        iou_weight, cls_weight: weights of the two parts of the cost.
        fmt: "cxcywh" or "xyxy".

    Returns:
        Assignment; ``score`` is ``iou``, ``dynamic_k`` is what a ground truth asked for, at least 1.

    Raises:
        ValueError: shapes, dtypes, labels or counts that do not fit; the text says what was expected and what came.
            On a GPU labels and counts are not looked at, which would stop the stream: counts are clamped to [0, G],
            and a ground truth whose label is none of the classes takes no part.

    NaN in a prediction never matches: the IoU of a NaN box counts as 0, an anchor with a NaN logit is never taken. No
    ground truth or no candidate: all background. No array of G * A * C is made. Not differentiable.
    """
    return Assignment(
        *call_assigner(
            library.simota_assign,
            (cls_logits, obj_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides),
            *(rule, topk, iou_weight, cls_weight, fmt),
        )
    )


def simota_cost(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    rule: str = "main",
    topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    fmt: str = "cxcywh",
) -> tuple[Tensor, Tensor]:
    """The costs and IoUs that :func:`simota_assign` (same arguments) decides on, for inspection.

    Returns:
        cost float32 [B, G, A], +inf where the anchor is no candidate of the image, the ground truth is padding or a
        logit is NaN; iou float32 [B, G, A], 0 where the anchor is no candidate or the ground truth is padding.
    """
    cost, iou = call_assigner(
        library.simota_cost,
        (cls_logits, obj_logits, boxes, gt_boxes, gt_labels, gt_counts, centers, strides),
        *(rule, topk, iou_weight, cls_weight, fmt),
    )
    return cost, iou


@register_fake("simota_assign")
def _(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    rule: str,
    topk: int,
    iou_weight: float,
    cls_weight: float,
    fmt: str,
) -> tuple[Tensor, ...]:
    return fake_assignment(cls_logits, boxes.shape[0], boxes.shape[1], gt_boxes.shape[1])


@register_fake("simota_cost")
def _(
    cls_logits: Tensor,
    obj_logits: Tensor | None,
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_counts: Tensor,
    centers: Tensor,
    strides: Tensor,
    rule: str,
    topk: int,
    iou_weight: float,
    cls_weight: float,
    fmt: str,
) -> tuple[Tensor, Tensor]:
    shape = boxes.shape[0], gt_boxes.shape[1], boxes.shape[1]
    return cls_logits.new_empty(shape, dtype=torch.float32), cls_logits.new_empty(shape, dtype=torch.float32)

"""The losses of both heads.

Every loss is a sum over the batch divided by one normaliser, so a batch that is spread over processes has the same loss
as on one: ``across`` adds up the normaliser, and each process returns its share of the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from leyolo.data.batch import Targets
from leyolo.ops import complete_box_iou_loss
from leyolo.train.assign import Anchors, assign

LEYOLO_PARTS = ("box", "cls", "dfl")
YOLOX_PARTS = ("iou", "obj", "cls", "l1")
BOX_GAIN, CLS_GAIN, DFL_GAIN = 7.5, 0.5, 1.5
"""Weights of the parts of LeYOLO's loss, those of the published training."""
IOU_GAIN = 5.0
"""Weight of YOLOX's IoU loss; the other parts count once."""


class Losses(NamedTuple):
    """``total``: scalar with a gradient; ``parts``: its weighted summands [P], detached, in the order of the names;
    ``positives``: foreground anchors of the batch, int64 scalar."""

    total: Tensor
    parts: Tensor
    positives: Tensor


PARTS = {"leyolo": LEYOLO_PARTS, "yolox": YOLOX_PARTS}


def _alone(value: Tensor) -> Tensor:
    return value


def _sum_up(parts: list[Tensor], found: Tensor) -> Losses:
    stacked = torch.stack(parts)
    return Losses(stacked.sum(), stacked.detach(), found)


def _bce_sum(logits: Tensor, positive: Tensor) -> Tensor:
    """Binary cross-entropy summed over ``logits``, where ``positive`` = sum of logit * target: log(1 + e^x) - x t."""
    return F.softplus(logits).sum() - positive


def _sides(box_logits: Tensor) -> Tensor:
    """[..., 4 * R] as [..., 4, R]."""
    return box_logits.reshape(*box_logits.shape[:-1], 4, box_logits.shape[-1] // 4)


def distances(box_logits: Tensor) -> Tensor:
    """Expected distances in cells [..., 4] (left, top, right, bottom) of distributions [..., 4 * R]."""
    bins = _sides(box_logits).softmax(-1)
    expected: Tensor = bins @ torch.arange(bins.shape[-1], dtype=bins.dtype, device=bins.device)
    return expected


def corners(sides: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Boxes xyxy in pixels [..., 4] of distances in cells."""
    low, high = sides.tensor_split(2, -1)
    scale = strides[..., None]
    return torch.cat([centers - low * scale, centers + high * scale], -1)


def distribution_focal_loss(box_logits: Tensor, sides: Tensor) -> Tensor:
    """Cross-entropy with the two bins next to each distance, weighted by nearness, mean over the sides.

    Args:
        box_logits: [N, 4 * R]. sides: [N, 4], distances in cells, below R - 1.

    Returns:
        [N]. Source: Li et al., "Generalized Focal Loss" (arXiv 2006.04388), equation 6.
    """
    logs = _sides(box_logits).log_softmax(-1)
    lower = sides.long()
    share = sides - lower
    at_lower, at_upper = (logs.gather(-1, index[..., None])[..., 0] for index in (lower, lower + 1))
    loss: Tensor = -((1 - share) * at_lower + share * at_upper).mean(-1)
    return loss


def leyolo_loss(
    logits: Tensor,
    targets: Targets,
    points: Anchors,
    *,
    assigner: str = "tal",
    reg_max: int = 16,
    across: Callable[[Tensor], Tensor] = _alone,
) -> Losses:
    """LeYOLO's loss: ``(7.5 sum w (1 - CIoU) + 0.5 sum BCE + 1.5 sum w DFL) / max(sum w, 1)``.

    w is the score that the assigner gives a positive, and the target of its class; the BCE runs over all anchors and
    classes. Sources: TOOD (arXiv 2108.07755), Generalized Focal Loss, Distance-IoU Loss (arXiv 1911.08287).

    Args:
        logits: [B, A, 4 * reg_max + C], computed in float32 at least.
        targets: ground truths, xyxy pixels. points: the A anchors.
        assigner: tal, simota or ota.
        across: adds a scalar up over all processes.

    Returns:
        Parts as in ``LEYOLO_PARTS``.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    box_logits, cls_logits = logits.tensor_split([4 * reg_max], 2)
    with torch.no_grad():
        boxes = corners(distances(box_logits), *points)
    found = assign(assigner, cls_logits, None, boxes, targets, points)
    image, anchor = (found.gt_index >= 0).nonzero(as_tuple=True)
    truth = found.gt_index[image, anchor]
    weight = found.score[image, anchor].to(logits.dtype)
    normaliser = across(weight.sum()).clamp(min=1)
    centers, strides = points.centers[anchor], points.strides[anchor]
    chosen, wanted = box_logits[image, anchor], targets.boxes[image, truth].to(logits.dtype)
    predicted = corners(distances(chosen), centers, strides)
    box = (complete_box_iou_loss(predicted, wanted) * weight).sum()
    cls = _bce_sum(cls_logits, (cls_logits[image, anchor, targets.labels[image, truth]] * weight).sum())
    sides = torch.cat([centers - wanted[:, :2], wanted[:, 2:] - centers], 1) / strides[:, None]
    dfl = (distribution_focal_loss(chosen, sides.clamp(0, reg_max - 1.01)) * weight).sum()
    parts = [gain * part / normaliser for gain, part in ((BOX_GAIN, box), (CLS_GAIN, cls), (DFL_GAIN, dfl))]
    return _sum_up(parts, found.num_fg.sum())


def yolox_boxes(raw: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Boxes xyxy in pixels of YOLOX's regression (tx, ty, tw, th), [..., 4]."""
    scale = strides[..., None]
    middle = (raw[..., :2] - 0.5) * scale + centers  # offsets count from the cell's corner
    half = raw[..., 2:].exp() * scale / 2
    return torch.cat([middle - half, middle + half], -1)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of pairs of boxes xyxy [N, 4]."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = size.prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return inter / (areas[0] + areas[1] - inter + 1e-16)


def yolox_loss(
    logits: Tensor,
    targets: Targets,
    points: Anchors,
    *,
    assigner: str = "simota",
    l1: bool = False,
    across: Callable[[Tensor], Tensor] = _alone,
) -> Losses:
    """YOLOX's loss: ``(5 sum (1 - IoU^2) + sum BCE(obj) + sum BCE(cls) [+ sum |raw - target|]) / max(positives, 1)``.

    Objectness over all anchors; the rest over the positives, with the IoU as target of their class. Source: Ge et al.,
    "YOLOX: Exceeding YOLO Series in 2021" (arXiv 2107.08430).

    Args:
        logits: [B, A, 4 + 1 + C], computed in float32 at least.
        targets: ground truths, xyxy pixels. points: the A anchors.
        assigner: simota or ota.
        l1: whether the last part counts (the last epochs, without mosaic).
        across: adds a scalar up over all processes.

    Returns:
        Parts as in ``YOLOX_PARTS``.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    raw, obj_logits, cls_logits = logits[..., :4], logits[..., 4], logits[..., 5:]
    with torch.no_grad():
        boxes = yolox_boxes(raw, *points)
    found = assign(assigner, cls_logits, obj_logits, boxes, targets, points)
    image, anchor = (found.gt_index >= 0).nonzero(as_tuple=True)
    truth = found.gt_index[image, anchor]
    normaliser = across(found.num_fg.sum().to(logits.dtype)).clamp(min=1)
    centers, strides = points.centers[anchor], points.strides[anchor]
    chosen, wanted = raw[image, anchor], targets.boxes[image, truth].to(logits.dtype)
    classes = cls_logits[image, anchor]
    overlap = found.iou[image, anchor].to(logits.dtype)
    iou = (1 - _iou(yolox_boxes(chosen, centers, strides), wanted).square()).sum()
    obj = _bce_sum(obj_logits, obj_logits[image, anchor].sum())
    own = classes.gather(1, targets.labels[image, truth][:, None])[:, 0]
    cls = _bce_sum(classes, (own * overlap).sum())
    off = (chosen - _regression_targets(wanted, centers, strides)).abs().sum() if l1 else raw.new_zeros(())
    return _sum_up([part / normaliser for part in (IOU_GAIN * iou, obj, cls, off)], found.num_fg.sum())


def _regression_targets(boxes: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """What YOLOX's regression should say for these boxes, [N, 4]."""
    scale = strides[:, None]
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(middle - centers) / scale + 0.5, (size / scale + 1e-8).log()], 1)


def loss(
    head: str,
    logits: Tensor,
    targets: Targets,
    points: Anchors,
    *,
    assigner: str,
    reg_max: int,
    l1: bool,
    across: Callable[[Tensor], Tensor],
) -> Losses:
    """The loss of either head; parts as in ``PARTS``. ``reg_max`` concerns the leyolo head, ``l1`` the yolox head."""
    if head == "yolox":
        return yolox_loss(logits, targets, points, assigner=assigner, l1=l1, across=across)
    return leyolo_loss(logits, targets, points, assigner=assigner, reg_max=reg_max, across=across)

"""Losses of the IoU family for bounding-box regression."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from leyolo.ops._library import call, library, register_fake
from leyolo.ops.boxes import upcast


def box_iou_loss_reference(
    boxes1: Tensor, boxes2: Tensor, kind: str, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """All three kinds in plain torch, as torchvision writes them."""
    (low1, high1), (low2, high2) = ((b[..., :2], b[..., 2:]) for b in map(upcast, (boxes1, boxes2)))
    size = torch.minimum(high1, high2) - torch.maximum(low1, low2)
    inter = torch.where((size > 0).all(-1), size.prod(-1), 0.0)
    union = (high1 - low1).prod(-1) + (high2 - low2).prod(-1) - inter
    iou = inter / (union + eps)
    hull = torch.maximum(high1, high2) - torch.minimum(low1, low2)
    if kind == "generalized":
        area = hull.prod(-1)
        return _reduce(1 - (iou - (area - union) / (area + eps)), reduction)
    distance = ((low1 + high1) / 2 - (low2 + high2) / 2).square().sum(-1)
    loss = 1 - iou + distance / (hull.square().sum(-1) + eps)
    if kind == "complete":
        angle1, angle2 = (torch.atan(side[..., 0] / side[..., 1]) for side in (high1 - low1, high2 - low2))
        v = 4 / math.pi**2 * (angle1 - angle2) ** 2
        loss = loss + (v / (1 - iou + v + eps)).detach() * v
    return _reduce(loss, reduction)


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean() if loss.numel() else 0.0 * loss.sum()
    raise ValueError(f"box_iou_loss: reduction must be none, mean or sum, got {reduction!r}")


def _loss(boxes1: Tensor, boxes2: Tensor, kind: str, reduction: str, eps: float) -> Tensor:
    if boxes1.shape != boxes2.shape or boxes1.ndim < 1 or boxes1.shape[-1] != 4:
        raise ValueError(
            f"box_iou_loss: boxes1 and boxes2 must be [N, 4], got {list(boxes1.shape)} and {list(boxes2.shape)}"
        )
    lead = boxes1.shape[:-1]
    pairs = tuple(boxes.reshape(math.prod(lead), 4).contiguous() for boxes in (boxes1, boxes2))
    loss: Tensor = call(library.box_iou_loss, pairs, kind, eps)
    return _reduce(loss.reshape(lead), reduction)


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - generalized IoU of pairs of boxes (Rezatofighi et al., arXiv 1902.09630).

    Args:
        boxes1: [N, 4] (x1, y1, x2, y2), or any [..., 4]; float32, float16, bfloat16 (computed in float32) or float64.
        boxes2: the same shape and dtype.
        reduction: none, mean (0 for no boxes) or sum.
        eps: added to every denominator.

    Returns:
        [N], or a scalar; float32, float64 for float64 boxes.

    Raises:
        ValueError: shapes, dtypes or a reduction that do not fit; the text says what was expected and what came.

    Differentiable (once) with respect to both, in one pass each way. As
    ``torchvision.ops.generalized_box_iou_loss``.
    """
    return _loss(boxes1, boxes2, "generalized", reduction, eps)


def distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - distance IoU of pairs of boxes (Zheng et al., arXiv 1911.08287), else as :func:`generalized_box_iou_loss`."""
    return _loss(boxes1, boxes2, "distance", reduction, eps)


def complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - complete IoU of pairs of boxes (Zheng et al., arXiv 1911.08287); the weight alpha of the aspect-ratio term
    carries no gradient. Otherwise as :func:`generalized_box_iou_loss`."""
    return _loss(boxes1, boxes2, "complete", reduction, eps)


@register_fake("box_iou_loss")
def _(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> Tensor:
    return boxes1.new_empty(boxes1.shape[0], dtype=torch.float64 if boxes1.dtype == torch.float64 else torch.float32)


@register_fake("box_iou_loss_backward")
def _(
    gradient: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float, want1: bool, want2: bool
) -> tuple[Tensor, Tensor]:
    return boxes1.new_empty(boxes1.shape if want1 else 0), boxes2.new_empty(boxes2.shape if want2 else 0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, *ctx.arguments = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = [bool(want) for want in ctx.needs_input_grad[:2]]
    gradients = library.box_iou_loss_backward(gradient.contiguous(), *ctx.saved_tensors, *ctx.arguments, *wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), None, None


torch.library.register_autograd("leyolo::box_iou_loss", _backward, setup_context=_setup_context)

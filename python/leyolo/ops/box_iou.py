"""Pairwise IoU and its relatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from leyolo.ops._library import call, library, register_fake
from leyolo.ops.boxes import FORMATS, box_area, upcast


def _corners(boxes: Tensor, fmt: str) -> tuple[Tensor, Tensor]:
    first, second = boxes[..., :2], boxes[..., 2:]
    if fmt == "xyxy":
        return first, second
    return (first, first + second) if fmt == "xywh" else (first - second / 2, first + second / 2)


def box_iou_reference(
    boxes1: Tensor, boxes2: Tensor, kind: str = "iou", fmt: str = "xyxy", eps: float = 1e-7
) -> Tensor:
    """All four kinds in plain torch, as torchvision writes them."""
    boxes1, boxes2 = upcast(boxes1)[..., :, None, :], upcast(boxes2)[..., None, :, :]
    (low1, high1), (low2, high2) = _corners(boxes1, fmt), _corners(boxes2, fmt)
    inter = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(-1)
    union = box_area(boxes1, fmt) + box_area(boxes2, fmt) - inter
    iou = inter / union
    if kind == "iou":
        return iou
    hull = (torch.maximum(high1, high2) - torch.minimum(low1, low2)).clamp(min=0)
    if kind == "generalized":
        return iou - (hull.prod(-1) - union) / hull.prod(-1)
    distance = ((low1 + high1) / 2 - (low2 + high2) / 2).square().sum(-1)
    near = iou - distance / (hull.square().sum(-1) + eps)
    if kind == "distance":
        return near
    angle1, angle2 = (torch.atan(side[..., 0] / side[..., 1]) for side in (high1 - low1, high2 - low2))
    v = 4 / math.pi**2 * (angle1 - angle2) ** 2
    alpha = (v / (1 - iou + v + eps)).detach()
    return near - alpha * v


def _pairwise(boxes1: Tensor, boxes2: Tensor, kind: str, fmt: str = "xyxy", eps: float = 1e-7) -> Tensor:
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        if boxes.ndim < 2 or boxes.shape[-1] != 4:
            raise ValueError(f"box_iou: {name} must be [..., N, 4], got {list(boxes.shape)}")
    lead = boxes1.shape[:-2]
    if lead != boxes2.shape[:-2]:
        raise ValueError(
            "box_iou: boxes1 and boxes2 must have the same leading sizes, "
            f"got {list(boxes1.shape)} and {list(boxes2.shape)}"
        )
    if fmt not in FORMATS:
        raise ValueError(f"box_iou: fmt must be xyxy, xywh or cxcywh, got {fmt!r}")
    batch = math.prod(lead)
    tensors = tuple(b.reshape(batch, b.shape[-2], 4).contiguous() for b in (boxes1, boxes2))
    out: Tensor = call(library.box_iou, tensors, kind, fmt, eps)
    return out.reshape(*lead, boxes1.shape[-2], boxes2.shape[-2])


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """IoU of every box of ``boxes1`` with every box of ``boxes2``.

    Args:
        boxes1: [..., N, 4], float32, float16, bfloat16 (computed in float32) or float64.
        boxes2: [..., M, 4], the same leading sizes and dtype.
        fmt: xyxy, xywh (upper left corner and size) or cxcywh (centre and size), of both.

    Returns:
        [..., N, M] float32, float64 for float64 boxes. NaN where both boxes are empty.

    Raises:
        ValueError: shapes or dtypes that do not fit; the text says what was expected and what came.

    Differentiable (once) with respect to both; a pair takes no temporary memory. As ``torchvision.ops.box_iou``, whose
    float32 results it reproduces bit by bit.
    """
    return _pairwise(boxes1, boxes2, "iou", fmt)


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalized IoU of every pair (xyxy), in -1..1: IoU - (hull - union) / hull, where the hull is the smallest box
    around both (Rezatofighi et al., arXiv 1902.09630). Otherwise as :func:`box_iou`."""
    return _pairwise(boxes1, boxes2, "generalized")


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Distance IoU of every pair (xyxy): IoU - d² / (c² + eps) with d the distance of the centres and c the diagonal of
    the smallest box around both (Zheng et al., arXiv 1911.08287). Otherwise as :func:`box_iou`."""
    return _pairwise(boxes1, boxes2, "distance", eps=eps)


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU of every pair (xyxy): distance IoU - alpha v with v = 4/pi² (atan(w1/h1) - atan(w2/h2))² and
    alpha = v / (1 - IoU + v + eps), which carries no gradient (Zheng et al., arXiv 1911.08287). Otherwise as
    :func:`box_iou`."""
    return _pairwise(boxes1, boxes2, "complete", eps=eps)


@register_fake("box_iou")
def _(boxes1: Tensor, boxes2: Tensor, kind: str, fmt: str, eps: float) -> Tensor:
    dtype = torch.float64 if boxes1.dtype == torch.float64 else torch.float32
    return boxes1.new_empty(boxes1.shape[0], boxes1.shape[1], boxes2.shape[1], dtype=dtype)


@register_fake("box_iou_backward")
def _(
    gradient: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, fmt: str, eps: float, want1: bool, want2: bool
) -> tuple[Tensor, Tensor]:
    return boxes1.new_empty(boxes1.shape if want1 else 0), boxes2.new_empty(boxes2.shape if want2 else 0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, *ctx.arguments = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = [bool(want) for want in ctx.needs_input_grad[:2]]
    gradients = library.box_iou_backward(gradient.contiguous(), *ctx.saved_tensors, *ctx.arguments, *wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), None, None, None


torch.library.register_autograd("leyolo::box_iou", _backward, setup_context=_setup_context)

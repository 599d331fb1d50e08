"""Areas, formats and filters of boxes, in plain torch: differentiable, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

FORMATS = ("xyxy", "xywh", "cxcywh")


def _check(op: str, boxes: Tensor, **formats: str) -> None:
    for name, fmt in formats.items():
        if fmt not in FORMATS:
            raise ValueError(f"{op}: {name} must be xyxy, xywh or cxcywh, got {fmt!r}")
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(f"{op}: boxes must be [..., 4], got {list(boxes.shape)}")


def upcast(boxes: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, small integers as int32: products of coordinates would overflow."""
    if boxes.is_floating_point():
        return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()
    return boxes if boxes.dtype in (torch.int32, torch.int64) else boxes.int()


def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """Areas of ``boxes`` [..., 4]: [...], float16 and bfloat16 in float32.

    ``fmt`` is xyxy (two corners), xywh (upper left corner and size) or cxcywh (centre and size); the unit is that of
    the coordinates, squared. Negative where a box is inside out in one direction. As ``torchvision.ops.box_area``.
    """
    _check("box_area", boxes, fmt=fmt)
    b = upcast(boxes)
    if fmt == "xyxy":
        return (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    return b[..., 2] * b[..., 3]


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """``boxes`` [..., 4] from one format to another: xyxy, xywh (upper left corner, size) or cxcywh (centre, size).

    Always a new tensor, in the dtype of ``boxes``. As ``torchvision.ops.box_convert``.
    """
    _check("box_convert", boxes, in_fmt=in_fmt, out_fmt=out_fmt)
    if in_fmt == out_fmt:
        return boxes.clone()
    first, second = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "xyxy":
        low, high = first, second
    elif in_fmt == "xywh":
        low, high = first, first + second
    else:
        low, high = first - 0.5 * second, first + 0.5 * second
    if out_fmt == "xyxy":
        parts = low, high
    elif out_fmt == "xywh":
        parts = low, high - low
    else:
        parts = (low + high) / 2, high - low
    return torch.cat([part.to(boxes.dtype) for part in parts], -1)


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """``boxes`` [..., 4] xyxy with every corner moved into an image of ``size`` (height, width) pixels."""
    _check("clip_boxes_to_image", boxes)
    height, width = size
    return torch.stack(
        [boxes[..., i].clamp(min=0, max=limit) for i, limit in enumerate((width, height, width, height))], -1
    )


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """int64 [K]: indices of those ``boxes`` [N, 4] xyxy whose width and height are both at least ``min_size``."""
    _check("remove_small_boxes", boxes)
    return ((boxes[..., 2:] - boxes[..., :2]) >= min_size).all(-1).nonzero()[:, 0]

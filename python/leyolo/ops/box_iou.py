"""Pairwise IoU."""

from __future__ import annotations

import torch
from torch import Tensor

from leyolo.ops._library import library, register_fake


def box_iou_reference(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """The same in plain torch, in the dtype of its inputs."""
    area1 = (boxes1[..., 2] - boxes1[..., 0]) * (boxes1[..., 3] - boxes1[..., 1])
    area2 = (boxes2[..., 2] - boxes2[..., 0]) * (boxes2[..., 3] - boxes2[..., 1])
    low = torch.maximum(boxes1[..., :, None, :2], boxes2[..., None, :, :2])
    high = torch.minimum(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])
    size = (high - low).clamp(min=0)
    inter = size[..., 0] * size[..., 1]
    return inter / (area1[..., :, None] + area2[..., None, :] - inter)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of ``boxes1`` [..., N, 4] with every box of ``boxes2`` [..., M, 4]: [..., N, M] float32."""
    iou: Tensor = library.box_iou(boxes1, boxes2)
    return iou


@register_fake("box_iou")
def _(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    dtype = torch.float64 if boxes1.dtype == torch.float64 else torch.float32
    return boxes1.new_empty(boxes1.shape[0], boxes1.shape[1], boxes2.shape[1], dtype=dtype)

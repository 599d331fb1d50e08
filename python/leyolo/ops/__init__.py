"""leyolo's operators on torch tensors (CPU and CUDA); the same ones on numpy arrays are in ``leyolo._C``."""

from __future__ import annotations

from leyolo.ops.assignment import Assignment
from leyolo.ops.box_iou import box_iou
from leyolo.ops.conv2d import conv2d
from leyolo.ops.depthwise_conv2d import depthwise_conv2d
from leyolo.ops.fcos import fcos_assign
from leyolo.ops.forward import forward
from leyolo.ops.inverted_bottleneck import inverted_bottleneck
from leyolo.ops.ota import ota_assign
from leyolo.ops.simota import simota_assign, simota_cost
from leyolo.ops.tal import tal_assign

__all__ = [
    "Assignment",
    "box_iou",
    "conv2d",
    "depthwise_conv2d",
    "fcos_assign",
    "forward",
    "inverted_bottleneck",
    "ota_assign",
    "simota_assign",
    "simota_cost",
    "tal_assign",
]

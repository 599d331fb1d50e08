"""leyolo's operators on torch tensors (CPU and CUDA); the same ones on numpy arrays are in ``leyolo._C``."""

from __future__ import annotations

from leyolo.ops.assignment import Assignment
from leyolo.ops.batch_norm_act import batch_norm_act
from leyolo.ops.box_iou import box_iou, complete_box_iou, distance_box_iou, generalized_box_iou
from leyolo.ops.box_iou_loss import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss
from leyolo.ops.boxes import box_area, box_convert, clip_boxes_to_image, remove_small_boxes
from leyolo.ops.conv2d import conv2d
from leyolo.ops.depthwise_conv2d import depthwise_conv2d
from leyolo.ops.detect_decode import detect_decode, yolox_decode
from leyolo.ops.fcos import fcos_assign
from leyolo.ops.forward import forward
from leyolo.ops.inverted_bottleneck import inverted_bottleneck
from leyolo.ops.inverted_bottleneck_norm import ConvNorm, inverted_bottleneck_norm
from leyolo.ops.letterbox import letterbox
from leyolo.ops.nms import batched_nms, nms, nms_padded
from leyolo.ops.ota import ota_assign
from leyolo.ops.simota import simota_assign, simota_cost
from leyolo.ops.tal import tal_assign

__all__ = [
    "Assignment",
    "ConvNorm",
    "batch_norm_act",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "complete_box_iou_loss",
    "conv2d",
    "depthwise_conv2d",
    "detect_decode",
    "distance_box_iou",
    "distance_box_iou_loss",
    "fcos_assign",
    "forward",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "inverted_bottleneck",
    "inverted_bottleneck_norm",
    "letterbox",
    "nms",
    "nms_padded",
    "ota_assign",
    "remove_small_boxes",
    "simota_assign",
    "simota_cost",
    "tal_assign",
    "yolox_decode",
]

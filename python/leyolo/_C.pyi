"""leyolo's kernels on numpy arrays (NHWC where images or feature maps)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
AssignmentArrays = tuple[Integers, Floats, Floats, Integers, Integers]

def build_info() -> dict[str, Any]: ...
def cpu_features() -> dict[str, Any]: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def machine_limits(seconds: float = 0.5) -> dict[str, Any]: ...
def conv2d_tiles(out_channels: int) -> list[tuple[int, int]]: ...
def depthwise_strip(out_width: int) -> int: ...
def conv2d_pack(weight: Array, bias: Array | None = None) -> Floats: ...
def conv2d_bf16_pack(weight: Floats, bias: Floats | None = None, *, activation: str = "none") -> NDArray[np.int32]: ...
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    activation: str = "none",
    out: Array | None = None,
) -> Array: ...
def depthwise_pack(weight: Array, bias: Array | None = None) -> Floats: ...
def depthwise_bf16_pack(
    weight: Floats, bias: Floats | None = None, *, activation: str = "none"
) -> NDArray[np.int32]: ...
def depthwise_conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    activation: str = "none",
    out: Array | None = None,
) -> Array: ...
def batch_norm_act(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    mean: Array | None = None,
    variance: Array | None = None,
    *,
    eps: float = 1e-5,
    activation: str = "none",
    out: Array | None = None,
) -> Any: ...
def stream_leaves(map_bytes: int, cache_bytes: int, share: float) -> bool: ...
def stream_windows(
    layers: Sequence[tuple[int, int, int, int]], cache_bytes: int, share: float
) -> tuple[int, list[int]]: ...
def bottleneck_fits(
    in_channels: int,
    middle_channels: int,
    out_channels: int,
    kernel: int,
    stride: int,
    expands: bool,
    shared_bytes: int,
    stem_kernel: int = 0,
    stem_channels: int = 0,
) -> bool: ...
def head_fits(in_channels: int, middle_channels: int, out_channels: int, shared_bytes: int) -> bool: ...
def inverted_bottleneck(
    x: Array,
    expand_weight: Array | None,
    expand_bias: Array | None,
    depthwise_weight: Array,
    depthwise_bias: Array | None,
    project_weight: Array,
    project_bias: Array | None,
    *,
    stride: int = 1,
    activation: str = "silu",
    residual: bool = False,
    share: float = 0.75,
    out: Array | None = None,
) -> Array: ...
def forward(
    x: Floats | NDArray[np.uint8],
    program: NDArray[np.int64],
    weights: Sequence[Floats | NDArray[np.int32]],
    arena: Floats | NDArray[np.uint16],
    arena_size: int,
    shape: Sequence[int],
    out: Floats | None = None,
    times: NDArray[np.float64] | None = None,
) -> Floats: ...
def detect_decode(
    logits: Array,
    centers: Floats,
    strides: Floats,
    *,
    reg_max: int = 16,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]: ...
def detect_decode_features(
    classes: Floats,
    features: Floats,
    weights: Sequence[Floats],
    anchors: Sequence[int],
    centers: Floats,
    strides: Floats,
    *,
    reg_max: int = 16,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]: ...
def yolox_decode(
    logits: Array,
    centers: Floats,
    strides: Floats,
    *,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]: ...
def letterbox(
    image: NDArray[np.uint8],
    size: int | tuple[int, int],
    *,
    stride: int = 32,
    rect: bool = False,
    scale_up: bool = True,
    value: int = 114,
    swap_rb: bool = False,
    dtype: str = "float32",
    out: Array | None = None,
) -> tuple[Array, float, tuple[int, int]]: ...
def box_iou(boxes1: Array, boxes2: Array, fmt: str = "xyxy") -> Array: ...
def generalized_box_iou(boxes1: Array, boxes2: Array) -> Array: ...
def distance_box_iou(boxes1: Array, boxes2: Array, eps: float = 1e-7) -> Array: ...
def complete_box_iou(boxes1: Array, boxes2: Array, eps: float = 1e-7) -> Array: ...
def box_area(boxes: Array, fmt: str = "xyxy") -> Array: ...
def box_convert(boxes: Array, in_fmt: str, out_fmt: str) -> Array: ...
def nms(boxes: Array, scores: Array, iou_threshold: float) -> NDArray[np.int64]: ...
def batched_nms(boxes: Array, scores: Array, idxs: NDArray[np.int64], iou_threshold: float) -> NDArray[np.int64]: ...
def _plain_nms(boxes: Floats, scores: Floats, iou_threshold: float) -> NDArray[np.int64]: ...
def nms_padded(
    boxes: Array,
    scores: Array,
    labels: NDArray[np.int64] | None = None,
    *,
    iou_threshold: float,
    max_det: int,
    score_threshold: float = ...,
    counts: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def generalized_box_iou_loss(boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = 1e-7) -> Array: ...
def distance_box_iou_loss(boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = 1e-7) -> Array: ...
def complete_box_iou_loss(boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = 1e-7) -> Array: ...
def simota_assign(
    cls_logits: Array,
    obj_logits: Array | None,
    boxes: Array,
    gt_boxes: Array,
    gt_labels: Array,
    gt_counts: Array,
    centers: Array,
    strides: Array,
    *,
    rule: str = "main",
    topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    fmt: str = "cxcywh",
) -> AssignmentArrays: ...
def simota_cost(
    cls_logits: Array,
    obj_logits: Array | None,
    boxes: Array,
    gt_boxes: Array,
    gt_labels: Array,
    gt_counts: Array,
    centers: Array,
    strides: Array,
    *,
    rule: str = "main",
    topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    fmt: str = "cxcywh",
) -> tuple[Floats, Floats]: ...
def ota_assign(
    cls_logits: Array,
    obj_logits: Array | None,
    boxes: Array,
    gt_boxes: Array,
    gt_labels: Array,
    gt_counts: Array,
    centers: Array,
    strides: Array,
    *,
    eps: float = 0.1,
    iterations: int = 50,
    topk: int = 20,
    fmt: str = "cxcywh",
) -> AssignmentArrays: ...
def tal_assign(
    scores: Array,
    boxes: Array,
    gt_boxes: Array,
    gt_labels: Array,
    gt_counts: Array,
    centers: Array,
    *,
    topk: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
    eps: float = 1e-9,
    fmt: str = "xyxy",
) -> AssignmentArrays: ...
def fcos_assign(
    gt_boxes: Array,
    gt_labels: Array,
    gt_counts: Array,
    centers: Array,
    strides: Array,
    *,
    radius: float = 1.5,
    ranges: Array | None = None,
    fmt: str = "xyxy",
) -> AssignmentArrays: ...

"""From logits to candidate boxes, the best class of each anchor: few objects on a background far below."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from leyolo import _C, geometry, ops
from leyolo.bench.ops.case import OURS, Case, Contestant

REG_MAX, CLASSES, STRIDES = 16, 80, (8, 16, 32)


def cases(size: str, imgsz: int) -> list[Case]:
    """For prediction and for validation; the leyolo head, and YOLOX's."""
    anchors = sum((imgsz // stride) ** 2 for stride in STRIDES)
    return [
        Case(
            op="detect_decode",
            name=f"{head} head, {anchors} anchors, confidence {threshold}",
            build=partial(build, imgsz, threshold),
            bytes=4 * anchors * (boxes + CLASSES),
            tolerance=1e-2,  # pixels
        )
        for head, boxes, build in (("leyolo", 4 * REG_MAX, _leyolo), ("yolox", 5, _yolox))
        for threshold in (0.25, 0.001)
    ]


def _scene(imgsz: int, channels: int) -> tuple[Any, ...]:
    """Logits [A, channels + C], centres and strides as arrays: one anchor of a hundred sees an object."""
    random = np.random.default_rng(0)
    centers, strides = geometry.anchor_points(imgsz, imgsz, STRIDES)
    logits = random.standard_normal((len(strides), channels + CLASSES), dtype=np.float32)
    logits[:, channels:] = 1.2 * logits[:, channels:] - 11
    objects = random.choice(len(strides), len(strides) // 100, replace=False)
    logits[objects, channels + random.integers(CLASSES, size=len(objects))] = 2 * random.standard_normal(len(objects))
    return logits, centers, strides


def _ours(decode: Callable[..., Any], *arrays: Any, **options: Any) -> Contestant:
    def found(result: Any) -> list[Any]:
        boxes, scores, labels, counts = result
        return [part[0, : int(counts[0])] for part in (boxes, scores, labels)]

    return Contestant(lambda: decode(*arrays, **options), found)


def _leyolo(imgsz: int, threshold: float, threads: int) -> dict[str, Contestant]:
    arrays = _scene(imgsz, 4 * REG_MAX)
    tensors = tuple(map(torch.from_numpy, arrays))
    # Channel by channel, as the maps of other libraries lie, which is faster for them.
    planar = arrays[0].T.copy().T, *arrays[1:]
    planar_tensors = tuple(map(torch.from_numpy, planar))
    options = {"reg_max": REG_MAX, "score_threshold": threshold}
    limit = math.log(threshold / (1 - threshold))
    return {
        OURS: _ours(ops.detect_decode, tensors[0][None], *tensors[1:], **options),
        "leyolo on numpy": _ours(_C.detect_decode, arrays[0][None], *arrays[1:], **options),
        "numpy, selects first": Contestant(lambda: _numpy(*_numpy_above(limit, *planar))),
        "numpy, decodes all": Contestant(lambda: _confident(threshold, *_numpy(*planar))),
        "torch, selects first": Contestant(lambda: _torch(*_torch_above(limit, *planar_tensors))),
        "torch, decodes all": Contestant(lambda: _confident(threshold, *_torch(*tensors))),
    }


def _confident(threshold: float, boxes: Any, scores: Any, labels: Any) -> tuple[Any, ...]:
    keep = scores > threshold
    return boxes[keep], scores[keep], labels[keep]


def _numpy_above(limit: float, logits: Any, centers: Any, strides: Any) -> tuple[Any, ...]:
    keep = np.flatnonzero(logits[:, 4 * REG_MAX :].max(1) > limit)
    return logits[keep], centers[keep], strides[keep]


def _numpy(logits: Any, centers: Any, strides: Any) -> tuple[Any, ...]:
    bins, classes = logits[:, : 4 * REG_MAX].reshape(-1, 4, REG_MAX), logits[:, 4 * REG_MAX :]
    e = np.exp(bins - bins.max(2, keepdims=True))
    sides = e @ np.arange(REG_MAX, dtype=np.float32) / e.sum(2) * strides[:, None]
    boxes = np.concatenate([centers - sides[:, :2], centers + sides[:, 2:]], 1)
    labels = classes.argmax(1)
    return boxes, 1 / (1 + np.exp(-classes[np.arange(len(labels)), labels])), labels


def _torch_above(limit: float, logits: Any, centers: Any, strides: Any) -> tuple[Any, ...]:
    keep = logits[:, 4 * REG_MAX :].amax(1) > limit
    return logits[keep], centers[keep], strides[keep]


def _torch(logits: Any, centers: Any, strides: Any) -> tuple[Any, ...]:
    bins, classes = logits[:, : 4 * REG_MAX].reshape(-1, 4, REG_MAX), logits[:, 4 * REG_MAX :]
    sides = bins.softmax(2) @ torch.arange(REG_MAX, dtype=torch.float32) * strides[:, None]
    boxes = torch.cat([centers - sides[:, :2], centers + sides[:, 2:]], 1)
    best, labels = classes.max(1)
    return boxes, best.sigmoid(), labels


def _yolox(imgsz: int, threshold: float, threads: int) -> dict[str, Contestant]:
    arrays = _scene(imgsz, 5)
    arrays[0][:, 4] += 3  # objectness
    tensors = tuple(map(torch.from_numpy, arrays))
    return {
        OURS: _ours(ops.yolox_decode, tensors[0][None], *tensors[1:], score_threshold=threshold),
        "leyolo on numpy": _ours(_C.yolox_decode, arrays[0][None], *arrays[1:], score_threshold=threshold),
        "torch, decodes all": Contestant(lambda: _confident(threshold, *_torch_yolox(*tensors))),
    }


def _torch_yolox(logits: Any, centers: Any, strides: Any) -> tuple[Any, ...]:
    steps = strides[:, None]
    middle = logits[:, :2] * steps + (centers - steps / 2)
    half = logits[:, 2:4].exp() * steps / 2
    best, labels = logits[:, 5:].max(1)
    return torch.cat([middle - half, middle + half], 1), logits[:, 4].sigmoid() * best.sigmoid(), labels

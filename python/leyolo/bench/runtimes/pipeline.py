"""From an encoded picture to boxes: ours, and what a good user writes round a foreign runtime with OpenCV and numpy."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leyolo import __version__
from leyolo.bench.runtimes.base import Array, Boxes, Job, Network, NotHereError, Pipeline, Precision
from leyolo.bench.runtimes.ours import prepared
from leyolo.geometry import letterbox

CONFIDENCE, IOU, MAX_DETECTIONS = 0.25, 0.7, 300


def ours(job: Job, dtype: Precision = "float32") -> Pipeline:
    from leyolo.predict import pipeline
    from leyolo.predict.images import decode_image

    c = job.checkpoint
    whole = pipeline.Pipeline(prepared(job, dtype), num_classes=c.num_classes, strides=c.strides, head=c.head)
    settings = pipeline.Settings(imgsz=job.shape[1:3], conf=CONFIDENCE, iou=IOU, max_det=MAX_DETECTIONS)

    def detect(data: bytes) -> Boxes:
        start = time.perf_counter()
        picture = decode_image(data)
        stages = {"decode": time.perf_counter() - start}
        found = whole([picture], settings)[0]
        for stage, name in (("preprocess", "preprocess"), ("inference", "network"), ("postprocess", "postprocess")):
            stages[name] = found.speed[stage] / 1e3
        return np.concatenate([found.boxes, found.scores[:, None], found.labels[:, None]], 1), stages

    return Pipeline(detect, __version__)


def peer(job: Job, *, load: Callable[[Job], Network]) -> Pipeline:
    """The same steps round another runtime: cv2.imdecode, cv2 letterbox, numpy normalisation and decoding of the
    anchors above the threshold, cv2's class-wise NMS; in the fastest of the usual forms of each."""
    cv2 = importlib.import_module("cv2")
    if job.checkpoint.head != "leyolo":
        raise NotHereError("the foreign pipelines are written for the leyolo head")
    network = load(job)
    cv2.setNumThreads(job.threads)
    planes = np.empty((1, 3, *job.shape[1:3]), np.float32)
    levels = [_grid(job, stride) for stride in job.checkpoint.strides]

    def normalised(picture: Array) -> Array:
        """BGR bytes to the network's RGB in 0..1."""
        share = np.float32(1 / 255)
        if network.layout == "NHWC":
            rgb: Array = np.multiply(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), share, dtype=np.float32)
            return rgb[None]
        for plane, channel in zip(planes[0], reversed(cv2.split(picture)), strict=True):
            np.multiply(channel, share, out=plane)
        return planes

    def detect(data: bytes) -> Boxes:
        times = [time.perf_counter()]
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        times.append(time.perf_counter())
        height, width = picture.shape[:2]
        box = letterbox(height, width, job.shape[1:3])
        inner = picture
        if (box.resized_height, box.resized_width) != (height, width):
            inner = cv2.resize(picture, (box.resized_width, box.resized_height), interpolation=cv2.INTER_LINEAR)
        bottom, right = box.height - box.resized_height - box.top, box.width - box.resized_width - box.left
        border = (box.top, bottom, box.left, right)
        x = normalised(cv2.copyMakeBorder(inner, *border, cv2.BORDER_CONSTANT, value=(114, 114, 114)))
        times.append(time.perf_counter())
        maps = network.forward(x)
        times.append(time.perf_counter())
        found = _detections(cv2, maps, levels)
        found[:, :4] = (found[:, :4] - [box.left, box.top, box.left, box.top]) / box.scale
        np.clip(found[:, :4], 0, [width, height, width, height], out=found[:, :4])
        times.append(time.perf_counter())
        return found, dict(zip(STAGES, np.diff(times).tolist(), strict=True))

    return Pipeline(detect, network.version)


STAGES = ("decode", "preprocess", "network", "postprocess")


def _grid(job: Job, stride: int) -> Array:
    """Cell centres [2, cells] of a level in cells, then its stride: [3, cells]."""
    rows, columns = (side // stride for side in job.shape[1:3])
    y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1) + 0.5
    return np.stack([x, y, np.full(rows * columns, stride)]).astype(np.float32)


def _detections(cv2: Any, maps: Array | Sequence[Array], levels: Sequence[Array]) -> Array:
    """Boxes [n, 6] in pixels of the network's input: only cells whose best class passes the threshold are decoded."""
    limit = math.log(CONFIDENCE / (1 - CONFIDENCE))
    corners, logits, labels = [], [], []
    for box, classes, grid in zip(maps[::2], maps[1::2], levels, strict=True):
        cells = _cells(classes)
        best = cells.max(0)
        keep = np.flatnonzero(best > limit)
        if not len(keep):
            continue
        sides = _cells(box)[:, keep].reshape(4, -1, len(keep))
        powers = np.exp(sides - sides.max(1, keepdims=True))
        bins = np.arange(sides.shape[1], dtype=np.float32)
        left, top, right, bottom = np.einsum("sbn,b->sn", powers, bins) / powers.sum(1)
        x, y, stride = grid[:, keep]
        corners.append(np.stack([x - left, y - top, x + right, y + bottom], 1) * stride[:, None])
        logits.append(best[keep])
        labels.append(cells[:, keep].argmax(0))
    if not corners:
        return np.empty((0, 6), np.float32)
    boxes, ids = np.concatenate(corners), np.concatenate(labels)
    scores = 1 / (1 + np.exp(-np.concatenate(logits)))
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    best = np.asarray(cv2.dnn.NMSBoxesBatched(sized, scores, ids, CONFIDENCE, IOU), np.int64)[:MAX_DETECTIONS]
    return np.concatenate([boxes[best], scores[best, None], ids[best, None]], 1).astype(np.float32)


def _cells(level: Array) -> Array:
    """A map [1, channels, h, w] as [channels, cells], without a copy in either memory layout."""
    _, channels, height, width = level.shape
    if level.flags.c_contiguous:
        return level.reshape(channels, height * width)
    return level.transpose(0, 2, 3, 1).reshape(height * width, channels).T

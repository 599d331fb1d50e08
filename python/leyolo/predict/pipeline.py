"""Pictures to boxes: letterbox, network, decoding, NMS, back to picture pixels. Threads may share a Pipeline."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo import _C
from leyolo.errors import UsageError, nearest
from leyolo.geometry import Letterbox, anchor_points, letterbox, unletterbox_boxes
from leyolo.predict.images import Pixels
from leyolo.runtime.engine import scratch

Array = NDArray[Any]
Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
Kept = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``float32 [B, H, W, 3]`` in 0..1 -> logits ``float32 [B, A, 4R + C]`` (yolox head: ``[B, A, 4 + 1 + C]``). An engine
that has a method ``detect`` (``leyolo.runtime.Engine``) gives the candidates of a leyolo head itself, one that has a
method ``boxes`` (``leyolo.predict.gpu.GpuEngine``) what is left after suppression, and, of pictures that it takes, its
method ``pictures`` without a letterbox; one whose ``input_dtype`` is ``"uint8"`` gets pixels 0..255, which take a
quarter of the memory."""


MAX_SIDE, MAX_DET, MAX_BATCH = 8192, 100_000, 4096
"""What a machine can hold: a slip of the keys should not ask for a terabyte."""


@dataclass(frozen=True)
class Settings:
    """How pictures become boxes; checked when it is made, with words that name the argument."""

    imgsz: int | tuple[int, int] = 640
    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    classes: tuple[int, ...] | None = None
    agnostic_nms: bool = False
    multi_label: bool = False
    rect: bool = False
    batch: int = 1
    fast_decode: bool = False

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            value = getattr(self, name)
            if not isinstance(value, Real):
                raise UsageError(f"{name} must be a number within 0..1, got {value!r}")
            if not 0 <= float(value) <= 1:
                raise UsageError(f"{name} must be within 0..1, got {value:g}")
        for name, most in (("max_det", MAX_DET), ("batch", MAX_BATCH)):
            check_count(name, getattr(self, name), most)
        for name in ("agnostic_nms", "multi_label", "rect", "fast_decode"):
            check_flag(name, getattr(self, name))


def check_count(name: str, value: Any, most: int | None = None) -> None:
    """A whole number of at least 1, and at most ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")
    if most is not None and int(value) > most:
        raise UsageError(f"{name} must be at most {most}, got {value}")


def check_flag(name: str, value: Any) -> None:
    """True or False, also as numpy's or as 1 or 0; not a text, of which any would be true."""
    if not isinstance(value, (bool, np.bool_)) and not (isinstance(value, Integral) and value in (0, 1)):
        raise UsageError(f"{name} must be True or False, got {value!r}")


def image_size(value: Any, stride: int) -> int | tuple[int, int]:
    """``imgsz`` as an int (square) or ``(height, width)``, multiples of the largest stride."""
    given = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    numbers = list(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else [given]
    sides = [int(n) for n in numbers if _is_whole(n)]
    if len(sides) != len(numbers) or len(sides) not in (1, 2):
        raise UsageError(f"imgsz must be one number or (height, width), got {value!r}")
    for side in sides:
        if side > MAX_SIDE:
            raise UsageError(f"imgsz must be at most {MAX_SIDE}, got {side}")
        if side < stride or side % stride:
            below, above = max(stride, side // stride * stride), max(stride, -(-side // stride) * stride)
            near = f"{below} or {above}" if below != above else str(below)
            raise UsageError(f"imgsz must be a multiple of {stride}, got {side}. The nearest: {near}")
    return sides[0] if len(sides) == 1 or sides[0] == sides[1] else (sides[0], sides[1])


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r" *[0-9]{1,9} *", value) is not None
    if isinstance(value, Integral):
        return not isinstance(value, bool)
    return isinstance(value, Real) and float(value).is_integer()


def class_ids(classes: Iterable[int | str] | int | str | None, names: Mapping[int, str]) -> tuple[int, ...] | None:
    """Class ids of a filter given by ids or names; None keeps every class."""
    if classes is None:
        return None
    ids = {name.lower(): i for i, name in names.items()}
    found = []
    for each in _listed_classes(classes, ids):
        text = str(each).strip()
        if text.lower() in ids:
            found.append(ids[text.lower()])
        elif re.fullmatch(r"-?[0-9]{1,18}", text):
            if int(text) not in names:
                raise UsageError(f"classes: the model has the classes 0..{len(names) - 1}, got {text}")
            found.append(int(text))
        else:
            raise UsageError(f"classes: the model has no class '{text}'.{nearest(text, ids)}")
    return tuple(sorted(set(found)))


def _listed_classes(classes: Any, ids: Mapping[str, int]) -> Iterator[int | str]:
    """The single ids and names; a text may hold several, by comma."""
    given = classes.tolist() if isinstance(classes, (np.ndarray, np.generic)) else classes
    for each in given if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else [given]:
        if isinstance(each, str):
            yield from [each] if each.strip().lower() in ids else each.split(",")
        elif _is_whole(each):
            yield int(each)
        else:
            raise UsageError(f"classes must be class ids or names, got {each!r}")


@dataclass(frozen=True)
class Detections:
    """Boxes of one picture, best first: xyxy in picture pixels, clipped to the picture. ``speed``: its share of its
    batch's milliseconds, by stage."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    speed: dict[str, float] = field(default_factory=dict)


_anchors = lru_cache(maxsize=32)(anchor_points)


class Pipeline:
    """One engine with what is needed around it."""

    def __init__(
        self, engine: Engine, *, num_classes: int, strides: Sequence[int] = (8, 16, 32), head: str = "leyolo"
    ) -> None:
        self.engine = engine
        self.num_classes = num_classes
        self.strides = tuple(int(s) for s in strides)
        self.head = head

    def __call__(self, images: Sequence[Pixels], settings: Settings) -> list[Detections]:
        """Boxes of every picture. Pictures whose network inputs have the same shape run as one batch."""
        done: dict[int, Detections] = {}
        groups: dict[tuple[int, int], list[tuple[int, Letterbox]]] = {}
        stride = max(self.strides)
        dtype = getattr(self.engine, "input_dtype", "float32")
        for index, image in enumerate(images):
            rows, columns, _ = image.shape
            box = letterbox(rows, columns, settings.imgsz, stride=stride, rect=settings.rect)
            groups.setdefault((box.height, box.width), []).append((index, box))
        for shape, group in groups.items():
            start = time.perf_counter()
            batch = self._pictures([images[index] for index, _ in group])
            whole = getattr(self.engine, "boxes" if batch is None else "pictures", None)
            if batch is None:
                size = (len(group), *shape, 3)
                batch = scratch(math.prod(size), dtype, "batch").reshape(size)
                for row, (index, _) in enumerate(group):
                    out = batch[row : row + 1]
                    _C.letterbox(images[index], settings.imgsz, stride=stride, rect=settings.rect, dtype=dtype, out=out)
            ready = time.perf_counter()
            if whole is not None:  # one piece on the GPU, which only the result is waited for
                found: list[Kept] = whole(batch, settings)
                inferred = time.perf_counter()
            else:
                candidates = self._candidates(batch, settings)
                inferred = time.perf_counter()
                found = _suppress(candidates, settings)
            boxes = [
                unletterbox_boxes(each, images[index].shape, shape, scale=box.scale, padding=(box.left, box.top))
                for (index, box), (each, _, _) in zip(group, found, strict=True)
            ]
            stages = {"preprocess": ready - start, "inference": inferred - ready}
            stages["postprocess"] = time.perf_counter() - inferred
            speed = {stage: seconds * 1e3 / len(group) for stage, seconds in stages.items()}
            for (index, _), placed, (_, scores, labels) in zip(group, boxes, found, strict=True):
                done[index] = Detections(placed, scores, labels, dict(speed))
        return [done[i] for i in range(len(images))]

    def _pictures(self, images: Sequence[Pixels]) -> Array | None:
        """Pictures of one size as a batch, where the engine takes them as they are."""
        takes = getattr(self.engine, "takes_pictures", None)
        if takes is None or len({image.shape for image in images}) > 1:
            return None
        if not takes((len(images), *images[0].shape)):
            return None
        return images[0][None] if len(images) == 1 else np.stack(images)

    def _candidates(self, x: Array, settings: Settings) -> Candidates:
        """Boxes in input pixels, scores, labels and counts of a batch."""
        conf, multi = settings.conf, settings.multi_label
        detect = getattr(self.engine, "detect", None)
        if detect is not None and self.head == "leyolo":
            found: Candidates = detect(x, score_threshold=conf, multi_label=multi)
            return found
        logits = self.engine(x)
        centers, strides = _anchors(x.shape[1], x.shape[2], self.strides)
        if self.head == "yolox":
            return _C.yolox_decode(logits, centers, strides, score_threshold=conf, multi_label=multi)
        bins = (logits.shape[-1] - self.num_classes) // 4
        return _C.detect_decode(logits, centers, strides, reg_max=bins, score_threshold=conf, multi_label=multi)


def _suppress(candidates: Candidates, settings: Settings) -> list[Kept]:
    """Candidates of a batch to (boxes, scores, labels) of every picture, best first."""
    boxes, scores, labels, counts = candidates
    if settings.classes is not None:
        scores = np.where(np.isin(labels, settings.classes), scores, np.float32(-1))
    indices, kept = _C.nms_padded(
        boxes,
        scores,
        None if settings.agnostic_nms else labels,
        iou_threshold=settings.iou,
        max_det=settings.max_det,
        score_threshold=settings.conf,
        counts=counts,
    )
    rows = [index[:n] for index, n in zip(indices, kept, strict=True)]
    return [(boxes[b][r], scores[b][r], labels[b][r]) for b, r in enumerate(rows)]

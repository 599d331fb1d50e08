"""One picture with its boxes, and what every augmentation shares. Numpy only; OpenCV where pixels are moved."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from leyolo import _C, geometry
from leyolo.errors import MissingDependencyError
from leyolo.predict.images import Pixels

PADDING = 114
"""The grey of the letterbox, around pictures and between them."""

Floats = NDArray[np.float32]


class Sample(NamedTuple):
    """image uint8 [H, W, 3] RGB; boxes float32 [g, 4], xyxy in its pixels; labels int64 [g]."""

    image: Pixels
    boxes: Floats
    labels: NDArray[np.int64]


def opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError("augmenting pictures needs OpenCV\npip install 'leyolo[train]'") from error
    return cv2


def fitted(sample: Sample, size: int) -> Sample:
    """Scaled as a whole to fit into ``size`` x ``size``, without padding."""
    height, width = sample.image.shape[:2]
    box = geometry.letterbox(height, width, size, stride=1, rect=True)
    (image,), _, _ = _C.letterbox(sample.image, size, stride=1, rect=True, dtype="uint8")
    return Sample(image, sample.boxes * np.float32(box.scale), sample.labels)


def padded(sample: Sample, height: int, width: int) -> Sample:
    """Grey on both sides up to ``height`` x ``width``, where :func:`leyolo.geometry.letterbox` has it."""
    rows, columns = sample.image.shape[:2]
    if (rows, columns) == (height, width):
        return sample
    left, top = round((width - columns) / 2 - 0.1), round((height - rows) / 2 - 0.1)
    image = np.full((height, width, 3), PADDING, np.uint8)
    image[top : top + rows, left : left + columns] = sample.image
    return Sample(image, sample.boxes + np.array([left, top, left, top], np.float32), sample.labels)


def kept(sample: Sample, whole: Floats, *, least_share: float) -> Sample:
    """Clips boxes to the picture and drops those of which too little is left to be learnt.

    Args:
        whole: float32 [g], the areas of the boxes before anything was cut off, in pixels of this picture.
        least_share: of that area that must be left.

    A box also goes if a side is 2 pixels or less, or one side is 100 times the other.
    """
    height, width = sample.image.shape[:2]
    boxes = np.clip(sample.boxes, 0, np.array([width, height, width, height], np.float32))
    sides = boxes[:, 2:] - boxes[:, :2]
    short, long = sides.min(1, initial=np.inf), sides.max(1, initial=0)
    stays = (short > 2) & (long < 100 * short) & (sides[:, 0] * sides[:, 1] > least_share * whole)
    return Sample(sample.image, boxes[stays], sample.labels[stays])


def areas(boxes: Floats) -> Floats:
    """float32 [g] of boxes [g, 4]."""
    result: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return result

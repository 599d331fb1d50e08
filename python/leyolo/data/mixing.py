"""Augmentations of several pictures at once. Pure functions: what is random comes from the generator that is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leyolo.data.sample import PADDING, Sample, areas, kept

_SHARE_SEEN = 0.25
"""Of a box that must stay visible where another picture is laid over it."""


def mosaic(samples: Sequence[Sample], size: int, generator: np.random.Generator) -> Sample:
    """Four pictures around one point of a canvas of twice ``size`` (Bochkovskiy et al. 2020, YOLOv4).

    The point is random, ``size / 2`` or more from the border. Each picture touches it with a corner; what reaches
    beyond the canvas is cut off.
    """
    side = 2 * size
    x, y = (int(v) for v in generator.uniform(0.5 * size, 1.5 * size, 2))
    canvas = np.full((side, side, 3), PADDING, np.uint8)
    boxes, labels, whole = [], [], []
    for at, sample in enumerate(samples):
        height, width = sample.image.shape[:2]
        left, top = x - width * (at % 2 == 0), y - height * (at < 2)
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, side), min(top + height, side)
        canvas[y1:y2, x1:x2] = sample.image[y1 - top : y2 - top, x1 - left : x2 - left]
        boxes.append(sample.boxes + np.array([left, top, left, top], np.float32))
        labels.append(sample.labels)
        whole.append(areas(sample.boxes))
    # Only what nothing is left of goes here: the affine map that follows decides about the rest.
    return kept(Sample(canvas, np.concatenate(boxes), np.concatenate(labels)), np.concatenate(whole), least_share=0.0)


def mixup(first: Sample, second: Sample, generator: np.random.Generator) -> Sample:
    """Both pictures, about half of each, with the boxes of both (Zhang et al. 2018; Beta(32, 32) as in YOLOX)."""
    share = generator.beta(32.0, 32.0)
    image = (first.image * share + second.image * (1 - share)).astype(np.uint8)
    return Sample(image, np.concatenate([first.boxes, second.boxes]), np.concatenate([first.labels, second.labels]))


def cutmix(first: Sample, second: Sample, generator: np.random.Generator) -> Sample:
    """A rectangle of the second picture laid over the first, at the same place (Yun et al. 2019).

    Its area is a uniform share of the picture. Boxes of the first stay if a quarter of them stays visible; boxes of the
    second are cut to the rectangle, and go if less than a quarter is in it.
    """
    height, width = first.image.shape[:2]
    ratio = np.sqrt(generator.uniform())
    columns, rows = int(width * ratio), int(height * ratio)
    left, top = int(generator.integers(0, width - columns + 1)), int(generator.integers(0, height - rows + 1))
    image = first.image.copy()
    image[top : top + rows, left : left + columns] = second.image[top : top + rows, left : left + columns]
    window = np.array([left, top, left + columns, top + rows], np.float32)
    inside = np.concatenate(
        [np.maximum(second.boxes[:, :2], window[:2]), np.minimum(second.boxes[:, 2:], window[2:])], 1
    )
    inside[:, 2:] = np.maximum(inside[:, 2:], inside[:, :2])
    added = kept(Sample(image, inside, second.labels), areas(second.boxes), least_share=_SHARE_SEEN)
    covered = np.minimum(first.boxes[:, 2:], window[2:]) - np.maximum(first.boxes[:, :2], window[:2])
    hidden = np.prod(np.maximum(covered, 0), axis=1)
    seen = hidden <= (1 - _SHARE_SEEN) * areas(first.boxes)
    return Sample(
        image,
        np.concatenate([first.boxes[seen], added.boxes]),
        np.concatenate([first.labels[seen], added.labels]),
    )

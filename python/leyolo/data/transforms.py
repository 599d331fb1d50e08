"""Augmentations of one picture. Pure functions: what is random comes from the generator that is given."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from leyolo.data.sample import PADDING, Sample, areas, kept, opencv
from leyolo.predict.images import Pixels

Matrix = NDArray[np.float64]

LEAST_SHARE = 0.1
"""Of a box that must be left in the picture."""


def jitter_colour(image: Pixels, generator: np.random.Generator, hue: float, saturation: float, value: float) -> Pixels:
    """Scales hue, saturation and value each by a factor from 1 - gain to 1 + gain; hue turns around."""
    if not hue and not saturation and not value:
        return image
    cv2 = opencv()
    factors = 1 + generator.uniform(-1, 1, 3) * (hue, saturation, value)
    levels = np.arange(256) * factors[:, None]
    tables = np.clip(levels, 0, 255).astype(np.uint8)
    tables[0] = (levels[0] % 180).astype(np.uint8)  # OpenCV counts hue in steps of two degrees
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    changed: Pixels = cv2.cvtColor(cv2.LUT(planes, np.ascontiguousarray(tables.T[None])), cv2.COLOR_HSV2RGB)
    return changed


def flip_horizontal(sample: Sample) -> Sample:
    width = np.float32(sample.image.shape[1])
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return Sample(opencv().flip(sample.image, 1), boxes, sample.labels)


def flip_vertical(sample: Sample) -> Sample:
    height = np.float32(sample.image.shape[0])
    boxes = sample.boxes.copy()
    boxes[:, [1, 3]] = height - sample.boxes[:, [3, 1]]
    return Sample(opencv().flip(sample.image, 0), boxes, sample.labels)


def random_matrix(
    generator: np.random.Generator,
    source: tuple[int, int],
    target: tuple[int, int],
    *,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
) -> Matrix:
    """A random affine map of a picture onto another, about its centre.

    Args:
        source, target: (height, width) of both.
        degrees, shear: turns and slants by up to so many degrees to either side.
        translate: moves the centre by up to this share of the target. scale: by a factor from 1 - scale to 1 + scale.

    Returns:
        float64 [2, 3] from source pixels to target pixels.
    """
    turn = math.radians(generator.uniform(-degrees, degrees))
    factor = generator.uniform(1 - scale, 1 + scale)
    slant = np.tan(np.radians(generator.uniform(-shear, shear, 2)))
    shift = generator.uniform(0.5 - translate, 0.5 + translate, 2)
    rotation = factor * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = np.array([[1, slant[0]], [slant[1], 1]]) @ rotation
    centre = np.array([source[1], source[0]]) / 2
    offset = shift * (target[1], target[0]) - linear @ centre
    return np.column_stack([linear, offset])


def affine(sample: Sample, matrix: Matrix, size: tuple[int, int], *, least_share: float = LEAST_SHARE) -> Sample:
    """The picture moved by ``matrix`` (float64 [2, 3], in the coordinates of boxes, where pixel 0 spans 0 to 1) into
    ``size`` (height, width), grey around it. A turned box becomes the upright one around its corners."""
    cv2 = opencv()
    # OpenCV's coordinates have pixel 0 at 0, those of boxes its centre at 0.5.
    linear, offset = matrix[:, :2], matrix[:, 2]
    centred = np.column_stack([linear, offset + linear @ (0.5, 0.5) - 0.5])
    image = cv2.warpAffine(sample.image, centred, (size[1], size[0]), borderValue=(PADDING, PADDING, PADDING))
    corners = sample.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ linear.T + offset
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    whole = areas(sample.boxes) * np.float32(abs(np.linalg.det(linear)))
    return kept(Sample(image, boxes, sample.labels), whole, least_share=least_share)

"""Where things lie: anchor points, the letterbox, and the way back to the pixels of the image. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def anchor_points(height: int, width: int, strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Cell centres of every level of the head, for a network input of ``height`` x ``width`` pixels.

    Levels in the order of ``strides``; in a level row by row (y slow, x fast).

    Returns:
        centers float32 [A, 2] (x, y in input pixels) and strides float32 [A].

    Raises:
        ValueError: the input is not a whole number of cells.
    """
    centers, sizes = [], []
    for stride in strides:
        if stride < 1 or height < 1 or width < 1 or height % stride or width % stride:
            raise ValueError(
                f"anchor_points: height and width must be positive multiples of the stride {stride}, "
                f"got {height} x {width}"
            )
        rows, columns = height // stride, width // stride
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centers.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
        sizes.append(np.full(rows * columns, stride))
    if not centers:
        raise ValueError("anchor_points: strides must name at least one level, got none")
    return np.concatenate(centers).astype(np.float32), np.concatenate(sizes).astype(np.float32)


class Letterbox(NamedTuple):
    """How an image of any shape fits into the network input."""

    height: int
    """Of the network input, padding included."""
    width: int
    resized_height: int
    """Of the image inside the padding."""
    resized_width: int
    scale: float
    """Input pixels per image pixel."""
    left: int
    """Padding columns before the image; what remains is behind it."""
    top: int


def image_size(size: int | Sequence[int]) -> tuple[int, int]:
    """``size`` as (height, width): an int is a square."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def letterbox(
    height: int,
    width: int,
    size: int | Sequence[int],
    *,
    stride: int = 32,
    rect: bool = False,
    scale_up: bool = True,
) -> Letterbox:
    """The letterbox of an image of ``height`` x ``width`` pixels.

    The image is scaled as a whole to fit into ``size`` and padded on both sides, the odd pixel right and below.

    Args:
        height, width: of the image.
        size: of the network input, an int or (height, width).
        stride: with ``rect``, each side is padded to the next multiple of it.
        rect: pad only that far, not to ``size``.
        scale_up: whether images that are smaller than ``size`` are enlarged.

    Raises:
        ValueError: a size that is not positive.
    """
    target_height, target_width = image_size(size)
    if min(height, width, target_height, target_width, stride) < 1:
        raise ValueError(
            "letterbox: image, size and stride must be positive, got "
            f"image {height} x {width}, size {target_height} x {target_width}, stride {stride}"
        )
    scale = min(target_height / height, target_width / width)
    if not scale_up:
        scale = min(scale, 1.0)
    # A very long image would be rounded to nothing.
    resized_height, resized_width = max(1, round(height * scale)), max(1, round(width * scale))
    if rect:
        target_height, target_width = -(-resized_height // stride) * stride, -(-resized_width // stride) * stride
    left = round((target_width - resized_width) / 2 - 0.1)
    top = round((target_height - resized_height) / 2 - 0.1)
    return Letterbox(target_height, target_width, resized_height, resized_width, scale, left, top)


def unletterbox_boxes(
    boxes: NDArray[Any],
    image_shape: Sequence[int],
    input_shape: Sequence[int],
    *,
    scale: float | None = None,
    padding: tuple[int, int] | None = None,
) -> Floats:
    """Boxes from the pixels of the network input to those of the image, clipped to the image.

    Args:
        boxes: [..., 4] xyxy in input pixels.
        image_shape: (height, width) of the image; more entries are ignored.
        input_shape: (height, width) of the network input.
        scale, padding: what the letterbox used, padding as (left, top). Without them, what the two shapes imply: right
            unless ``scale_up`` was off or ``rect`` padded both sides.

    Returns:
        float32 [..., 4].

    Raises:
        ValueError: boxes of another shape, or sizes that are not positive.
    """
    boxes = np.asarray(boxes)
    (height, width), (input_height, input_width) = image_shape[:2], input_shape[:2]
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"unletterbox_boxes: boxes must be [..., 4], got {list(boxes.shape)}")
    if min(height, width, input_height, input_width) < 1 or (scale is not None and not scale > 0):
        raise ValueError(
            "unletterbox_boxes: image, input and scale must be positive, got "
            f"image {height} x {width}, input {input_height} x {input_width}, scale {scale}"
        )
    if scale is None:
        scale = min(input_height / height, input_width / width)
    if padding is None:
        padding = round((input_width - width * scale) / 2 - 0.1), round((input_height - height * scale) / 2 - 0.1)
    moved = boxes.astype(np.float32) - np.array([*padding, *padding], np.float32)
    limits = np.array([width, height, width, height], np.float32)
    clipped: Floats = np.clip(moved / np.float32(scale), np.float32(0), limits)
    return clipped

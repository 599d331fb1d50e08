"""Pictures of drawn objects on textured backgrounds. Pillow and numpy only."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from leyolo.predict.images import Pixels

Points = NDArray[np.float64]
Mask = NDArray[np.float32]

_FINER = 4
"""Edges are drawn so many times finer, then averaged."""
_MOST = 14
_VISIBLE = 0.6
"""Of an object that later ones, and the border, leave to be seen."""
_CONTRAST = 70.0
"""Distance in RGB between an object and what is behind it."""


class Drawn(NamedTuple):
    """image uint8 [size, size, 3]; boxes float32 [g, 4] xyxy, around what is visible; labels int64 [g], positions in
    ``NAMES``."""

    image: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def _circle(radius: float, x: float = 0.0) -> Points:
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    return np.column_stack([x + radius * np.cos(angles), radius * np.sin(angles)])


def _star() -> Points:
    angles = np.arange(10) * math.pi / 5 - math.pi / 2
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    return np.column_stack([radius * np.cos(angles), radius * np.sin(angles)])


def _cross(arm: float) -> Points:
    quarter = np.array([[arm, -1.0], [arm, -arm], [1.0, -arm]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _heart() -> Points:
    t = np.linspace(0, 2 * math.pi, 80, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return np.column_stack([np.sin(t) ** 3, y - 0.1])


_ARROW = [(-1, -0.28), (0.1, -0.28), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.28), (-1, 0.28)]
_BOLT = [(0.15, -1), (-0.65, 0.15), (-0.1, 0.15), (-0.3, 1), (0.65, -0.3), (0.08, -0.3), (0.5, -1)]
_TRIANGLE = [(0, -1), (0.87, 0.6), (-0.87, 0.6)]
_SQUARE = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]

_OUTLINES: dict[str, tuple[Points, Points | None]] = {
    "circle": (_circle(1.0), None),
    "square": (np.array(_SQUARE), None),
    "triangle": (np.array(_TRIANGLE, float), None),
    "star": (_star(), None),
    "cross": (_cross(0.3), None),
    "ring": (_circle(1.0), _circle(0.55)),
    "arrow": (np.array(_ARROW, float), None),
    "heart": (_heart(), None),
    "moon": (_circle(1.0), _circle(0.85, 0.5)),
    "bolt": (np.array(_BOLT, float), None),
}
"""Outline, and what is cut out of it, within a circle of radius 1."""

NAMES = tuple(_OUTLINES)


def draw(size: int, random: np.random.Generator) -> Drawn:
    """A picture of ``size`` x ``size`` pixels with 1 to 14 objects, of which each covers a side of 5% to 60%.

    Objects are turned, stretched, shaded, cut by the border and by each other; noise and blur lie over all.
    """
    image = _background(size, random)
    owner = np.full((size, size), -1, np.int16)
    labels: list[int] = []
    totals: list[int] = []
    wanted = int(random.integers(1, _MOST + 1))
    # The larger they are, the farther back: small ones would vanish behind them.
    radii = np.sort(size * np.exp(random.uniform(math.log(0.025), math.log(0.3), wanted)))[::-1]
    for radius in radii:
        label = int(random.integers(len(NAMES)))
        mask = _mask(NAMES[label], float(radius), random)
        place = _place(owner, mask, totals, random)
        if place is not None:
            owner[place.window][place.solid] = len(labels)
            image[place.window] = _painted(image[place.window], place.mask, random)
            labels.append(label)
            totals.append(int((mask > 0.5).sum()))
    boxes = np.array([_extent(owner == at) for at in range(len(labels))], np.float32).reshape(-1, 4)
    return Drawn(_camera(image, random), boxes, np.array(labels, np.int64))


def _mask(name: str, radius: float, random: np.random.Generator) -> Mask:
    """Coverage 0 to 1 of an object, on a patch that just holds it."""
    stretch, turn = random.uniform(0.8, 1.25), random.uniform(0, 2 * math.pi)
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) * [stretch, 1 / stretch]
    outline, hole = (None if p is None else radius * _FINER * p @ matrix.T for p in _OUTLINES[name])
    assert outline is not None
    low = outline.min(0)
    width, height = (int(v) // _FINER + 2 for v in outline.max(0) - low)
    patch = Image.new("L", (width * _FINER, height * _FINER))
    pen = ImageDraw.Draw(patch)
    for points, fill in ((outline, 255), (hole, 0)):
        if points is not None:
            pen.polygon([tuple(point) for point in (points - low + _FINER / 2).tolist()], fill=fill)
    return np.asarray(patch.reduce(_FINER), np.float32) / np.float32(255)


class _Place(NamedTuple):
    window: tuple[slice, slice]
    mask: Mask
    solid: NDArray[np.bool_]


def _place(owner: NDArray[np.int16], mask: Mask, totals: list[int], random: np.random.Generator) -> _Place | None:
    """Where an object may go so that enough of it, and of those behind it, is seen; None if twenty tries fail."""
    size = len(owner)
    height, width = mask.shape
    solid = mask > 0.5
    seen = np.bincount(owner[owner >= 0], minlength=len(totals))
    for _ in range(20):
        x, y = (int(v) for v in random.uniform(-0.25, 1.25 - np.array([width, height]) / size) * size)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, size), min(y + height, size)
        if left >= right or top >= bottom:
            continue
        window, part = (
            (slice(top, bottom), slice(left, right)),
            (slice(top - y, bottom - y), slice(left - x, right - x)),
        )
        if solid[part].sum() < _VISIBLE * solid.sum():
            continue
        covered = owner[window][solid[part]]
        hidden = np.bincount(covered[covered >= 0], minlength=len(totals))
        if (seen - hidden >= _VISIBLE * np.array(totals, float)).all():
            return _Place(window, mask[part], solid[part])
    return None


def _extent(visible: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _background(size: int, random: np.random.Generator) -> Mask:
    """Two colours that run into each other in clouds, with or without a pattern; float32 [size, size, 3], 0 to 255."""
    clouds = sum(_cloud(size, cells, random) / (at + 1) for at, cells in enumerate((2, 5, 13, 40)))
    share = np.clip(0.5 + 0.45 * clouds, 0, 1)[..., None]
    one, other = random.uniform(20, 235, (2, 3)) * 0.6 + 0.4 * random.uniform(20, 235, (2, 1))
    image = one * share + other * (1 - share) + _pattern(size, random)[..., None] * random.uniform(4, 26)
    return np.asarray(image, np.float32)


def _cloud(size: int, cells: int, random: np.random.Generator) -> Mask:
    grid = Image.fromarray(random.standard_normal((cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _pattern(size: int, random: np.random.Generator) -> Mask:
    """Stripes, checks, speckles or lines, -1 to 1."""
    kind = random.integers(5)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    turn, count = random.uniform(0, math.pi), random.uniform(4, 24)
    along, across = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    if kind == 0:
        return np.asarray(np.sin(2 * math.pi * count * along), np.float32)
    if kind == 1:
        return np.asarray(np.sign(np.sin(math.pi * count * along) * np.sin(math.pi * count * across)), np.float32)
    if kind == 2:
        return np.asarray(np.clip(_cloud(size, int(size / 4), random), -1, 1), np.float32)
    canvas = Image.new("L", (size, size), 128)
    if kind == 3:
        pen = ImageDraw.Draw(canvas)
        for _ in range(int(count)):
            ends = random.uniform(0, size, 4).tolist()
            pen.line(ends, fill=int(random.choice([0, 255])), width=int(random.integers(1, 4)))
    return (np.asarray(canvas, np.float32) - np.float32(128)) / np.float32(128)


def _painted(behind: Mask, mask: Mask, random: np.random.Generator) -> Mask:
    """An object over what is behind it: one colour, shaded from one side, with or without a dark edge."""
    seen = np.average(behind.reshape(-1, 3), axis=0, weights=mask.ravel() + 1e-6)
    colour = random.uniform(0, 255, 3)
    while np.linalg.norm(colour - seen) < _CONTRAST:
        colour = random.uniform(0, 255, 3)
    height, width = mask.shape
    y, x = np.mgrid[:height, :width]
    turn = random.uniform(0, 2 * math.pi)
    light = (math.cos(turn) * (x / width - 0.5) + math.sin(turn) * (y / height - 0.5)) * random.uniform(0, 90)
    paint = colour + light[..., None]
    if random.uniform() < 0.4 and min(mask.shape) > 16:
        inner = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.MinFilter(5))
        paint = paint * np.where(np.asarray(inner, np.float32)[..., None] > 127, 1.0, 0.45)
    alpha = mask[..., None] * np.float32(random.uniform(0.88, 1.0))
    return np.asarray(behind * (1 - alpha) + np.clip(paint, 0, 255) * alpha, np.float32)


def _camera(image: Mask, random: np.random.Generator) -> Pixels:
    """Light, blur and noise."""
    image = (image - 128) * np.float32(random.uniform(0.75, 1.1)) + 128 + np.float32(random.uniform(-25, 25))
    pixels = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    if random.uniform() < 0.5:
        pixels = pixels.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.0))))
    noise = random.standard_normal((*image.shape[:2], 3), np.float32) * np.float32(random.uniform(0, 9))
    return np.clip(np.asarray(pixels, np.float32) + noise, 0, 255).astype(np.uint8)

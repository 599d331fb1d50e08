"""Boxes and labels on a picture, with Pillow. Lines and text scale with the picture; labels stay inside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from leyolo.errors import MissingDependencyError
from leyolo.predict.images import Pixels

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    from leyolo.predict.results import Results

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Rect = tuple[int, int, int, int]
Color = tuple[int, int, int]

_FALLBACK_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "arialuni.ttf", "msyh.ttc")
_SMALLEST_TEXT = 8.5  # pixels; below that no font is readable, so small pictures get relatively larger text


@lru_cache(maxsize=1024)
def color(index: int) -> Color:
    """The colour of a class, always the same one: golden-ratio steps in hue, two levels of lightness."""
    from colorsys import hls_to_rgb

    hue = (0.02 + index * 0.618033988749895) % 1.0
    lightness = (0.5, 0.62, 0.42)[index % 3]
    red, green, blue = (round(255 * v) for v in hls_to_rgb(hue, lightness, 0.9))
    return red, green, blue


def text_color(background: Color) -> Color:
    """White on dark and saturated colours, black on light ones; the contrast is at least 3.5 (WCAG luminance)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.25 else (255, 255, 255)


@lru_cache(maxsize=32)
def font(size: float, ascii_only: bool) -> Font:
    """The face of labels; with ``ascii_only`` Pillow's own will do, which knows Latin only."""
    from PIL import ImageFont

    if not ascii_only:
        for name in _FALLBACK_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def annotate(
    result: Results,
    *,
    line_width: int | None = None,
    font_size: float | None = None,
    labels: bool = True,
    conf: bool = True,
) -> Pixels:
    """The picture with its boxes, a new RGB array. The best boxes are drawn last, over the others."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(result.orig_img)
    draw = ImageDraw.Draw(image)
    height, width = result.orig_shape
    # The geometric mean of a very long picture's sides says little; its short side bounds what can be read.
    scale = min((height * width) ** 0.5, 2.5 * min(height, width))
    line = line_width if line_width is not None else round(1 + scale / 480)
    size = font_size if font_size is not None else min(_SMALLEST_TEXT + scale / 90, 64.0)
    rows = result.boxes.data.tolist()[::-1]
    rects = [_inside(row[:4], width, height) for row in rows]
    for row, rect in zip(rows, rects, strict=True):
        _outline(draw, rect, color(int(row[5])), line)
    # On a thumbnail labels would hide what they name: the boxes' colours have to do.
    if labels and min(height, width) >= 8 * size:
        _labels(image, draw, [_text(result, row, conf) for row in rows], [int(r[5]) for r in rows], rects, line, size)
    return np.array(image)


def _text(result: Results, row: list[float], conf: bool) -> str:
    name = result.names[int(row[5])]
    return f"{name} {row[4]:.2f}" if conf else name


def _inside(box: list[float], width: int, height: int) -> Rect:
    x1, x2 = (min(max(round(v), 0), width - 1) for v in (box[0], box[2]))
    y1, y2 = (min(max(round(v), 0), height - 1) for v in (box[1], box[3]))
    return x1, y1, max(x1, x2), max(y1, y2)


def _outline(draw: ImageDraw.ImageDraw, rect: Rect, fill: Color, line: int) -> None:
    """A frame inside the box, never thicker than a quarter of it: small objects stay visible."""
    thickness = max(1, min(line, min(rect[2] - rect[0], rect[3] - rect[1]) // 4))
    draw.rectangle(rect, outline=fill, width=thickness)


def _labels(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    texts: list[str],
    classes: list[int],
    rects: list[Rect],
    line: int,
    size: float,
) -> None:
    """Places the best boxes' labels first, each where it covers no other; draws them in reverse, best on top."""
    face = font(size, all(t.isascii() for t in texts))
    pad = max(1, round(size / 6))
    ascent_top, ascent_bottom = face.getbbox("Ag")[1], face.getbbox("Ag")[3]
    tall = round(ascent_bottom - ascent_top) + 2 * pad
    placed: list[Rect] = []
    todo: list[tuple[Rect, int]] = []
    for index in reversed(range(len(texts))):
        wide = round(face.getlength(texts[index])) + 2 * pad
        if wide > image.width or tall > image.height:
            continue
        spot = _spot(rects[index], wide, tall, image.width, image.height, placed)
        if spot is not None:
            placed.append(spot)
            todo.append((spot, index))
    for spot, index in reversed(todo):
        fill = color(classes[index])
        draw.rectangle((spot[0], spot[1], spot[2] - 1, spot[3] - 1), fill=fill)
        draw.text((spot[0] + pad, spot[1] + pad - ascent_top), texts[index], fill=text_color(fill), font=face)


def _spot(box: Rect, wide: int, tall: int, width: int, height: int, placed: list[Rect]) -> Rect | None:
    """The first free place for a label; if none is free, one that is hardly covered; None in a thicket."""
    choices: list[tuple[int, int, Rect]] = []
    for x, y in _corners(box, wide, tall):
        x, y = min(max(x, 0), width - wide), min(max(y, 0), height - tall)
        rect = (x, y, x + wide, y + tall)
        covered = sum(_overlap(rect, other) for other in placed)
        if covered == 0:
            return rect
        choices.append((covered, len(choices), rect))
    covered, _, rect = min(choices)
    return rect if covered <= wide * tall // 8 else None


def _corners(box: Rect, wide: int, tall: int) -> Iterator[tuple[int, int]]:
    x1, y1, x2, y2 = box
    yield x1, y1 - tall  # on the box, left
    yield x1, y1  # in the box, top left
    yield x2 - wide + 1, y1 - tall
    yield x2 - wide + 1, y1
    yield x1, y2 + 1  # below
    yield x1, y2 - tall + 1
    yield x2 - wide + 1, y2 + 1


def _overlap(a: Rect, b: Rect) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def show(pixels: Pixels, title: str) -> None:
    """Opens the system's picture viewer."""
    from PIL import Image

    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise MissingDependencyError("show needs a display, and this session has none. Use save instead")
    Image.fromarray(pixels).show(title=title)

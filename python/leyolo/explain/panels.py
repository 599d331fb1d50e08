"""What one assigner does, on the picture: boxes by object, anchors as dots as large as their stride."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from leyolo.explain.assigners import Share
from leyolo.explain.scene import Scene
from leyolo.predict.draw import Color, color, font, text_color
from leyolo.predict.images import Pixels

DOT = 0.22
"""Radius of a dot, in strides."""
WITHOUT: Color = (214, 20, 20)
BORDER = 16
"""Input pixels round the picture that are shown: anchors of objects at its border lie there."""
_DASH = 6


def shown(scene: Scene) -> tuple[int, int, int, int]:
    """The part of the input that panels show: (left, top, right, bottom)."""
    (left, top, right, bottom), (height, width) = scene.content, scene.image.shape[:2]
    return max(left - BORDER, 0), max(top - BORDER, 0), min(right + BORDER, width), min(bottom + BORDER, height)


def faded(image: Pixels, zoom: int, keep: float = 0.45) -> Image.Image:
    """Enlarged, grey and light, so that colours stand out."""
    height, width = image.shape[:2]
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    light = np.repeat((255 - (255 - grey) * keep).astype(np.uint8)[..., None], 3, 2)
    return Image.fromarray(light).resize((width * zoom, height * zoom), Image.Resampling.BICUBIC)


def dot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Color) -> None:
    """A filled circle with a dark rim, at least as large as can be seen."""
    radius = max(radius, 2.0)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=(25, 25, 25))


def tag(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, fill: Color, size: float = 15) -> float:
    """Text on a ground of a colour, its upper left corner at x, y; how far it reaches to the right."""
    face = font(size, text.isascii())
    width = pen.textlength(text, font=face) + 8
    pen.rectangle((x, y, x + width, y + size + 5), fill=fill)
    pen.text((x + 4, y + (size + 5) / 2), text, fill=text_color(fill), font=face, anchor="lm")
    return x + width


def panel(scene: Scene, shares: Sequence[Share], zoom: int) -> Image.Image:
    """One assigner: the picture with what there is of its padding within ``BORDER``, ``zoom`` times as large. An object
    without anchors is dashed and crossed out."""
    drawn = faded(scene.image, zoom)
    pen = ImageDraw.Draw(drawn)
    boxes = scene.targets.boxes[0].tolist()
    for number, (box, share) in enumerate(zip(boxes, shares, strict=True)):
        corners = [value * zoom for value in box]
        if share.anchors:
            pen.rectangle(corners, outline=color(number), width=3)
        else:
            _crossed(pen, corners)
    strides = scene.points.strides.tolist()
    owned = [(anchor, number) for number, share in enumerate(shares) for anchor in share.anchors]
    for anchor, number in sorted(owned, key=lambda pair: -strides[pair[0]]):  # small dots on large ones
        x, y = (value * zoom for value in scene.points.centers[anchor].tolist())
        dot(pen, x, y, DOT * strides[anchor] * zoom, color(number))
    for number, (box, share) in enumerate(zip(boxes, shares, strict=True)):
        fill = color(number) if share.anchors else WITHOUT
        tag(pen, box[0] * zoom, max(box[1] * zoom - 20, shown(scene)[1] * zoom), str(number + 1), fill)
    left, top, right, bottom = (side * zoom for side in shown(scene))
    return drawn.crop((left, top, right, bottom))


def _crossed(pen: ImageDraw.ImageDraw, corners: Sequence[float]) -> None:
    x1, y1, x2, y2 = corners
    for ax, ay, bx, by in ((x1, y1, x2, y1), (x1, y2, x2, y2), (x1, y1, x1, y2), (x2, y1, x2, y2)):
        steps = max(1, round(max(bx - ax, by - ay) / _DASH))
        for step in range(0, steps, 2):
            a, b = step / steps, min(step + 1, steps) / steps
            ends = (ax + a * (bx - ax), ay + a * (by - ay), ax + b * (bx - ax), ay + b * (by - ay))
            pen.line(ends, fill=WITHOUT, width=3)
    pen.line((x1, y1, x2, y2), fill=WITHOUT, width=2)
    pen.line((x1, y2, x2, y1), fill=WITHOUT, width=2)

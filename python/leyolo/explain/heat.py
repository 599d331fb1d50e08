"""SimOTA's cost of one object, cell by cell, a panel for each level of the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from leyolo.explain.panels import faded
from leyolo.explain.scene import Scene
from leyolo.ops import simota_cost
from leyolo.predict.draw import Color, color, font, text_color

PENALTY = 1e5
"""Costs from here on carry the penalty of lying off the centre: drawn as no candidate."""
_MARGIN = 8.0
_SCALE: NDArray[np.float64] = np.array([[0, 104, 55], [102, 189, 99], [254, 224, 139], [244, 109, 67], [165, 0, 38]])


class Costs(NamedTuple):
    """Of one object: candidates' positions int64 [n] and costs float64 [n]."""

    anchors: NDArray[np.int64]
    values: NDArray[np.float64]


def costs(scene: Scene, number: int, rule: str) -> Costs:
    """SimOTA's candidates of object ``number`` and what they cost it (``leyolo.ops.simota_cost``)."""
    targets = scene.targets
    cost, _ = simota_cost(
        scene.cls_logits,
        scene.obj_logits,
        scene.boxes,
        *(targets.boxes, targets.labels, targets.counts),
        *scene.points,
        rule=rule,
        fmt="xyxy",
    )
    row = cost[0, number].double().numpy()
    anchors = np.flatnonzero(row < PENALTY)
    return Costs(anchors, row[anchors])


def shade(share: float) -> Color:
    """Green for 0, the cheapest, over yellow to red for 1."""
    at = min(max(share, 0.0), 1.0) * (len(_SCALE) - 1)
    red, green, blue = (round(float(np.interp(at, range(len(_SCALE)), _SCALE[:, channel]))) for channel in range(3))
    return red, green, blue


def window(scene: Scene, number: int, found: Costs) -> tuple[int, int, int, int]:
    """The part of the input with the object and all its candidates: (left, top, right, bottom)."""
    centers, strides = scene.points.centers.numpy()[found.anchors], scene.points.strides.numpy()[found.anchors, None]
    box = scene.targets.boxes[0, number].numpy()
    low = np.concatenate([box[None, :2], centers - strides / 2]).min(0) - _MARGIN
    high = np.concatenate([box[None, 2:], centers + strides / 2]).max(0) + _MARGIN
    height, width = scene.image.shape[:2]
    left, top = (max(0, int(v)) for v in low)
    right, bottom = (min(limit, int(v) + 1) for v, limit in zip(high, (width, height), strict=True))
    return left, top, right, bottom


def panels(scene: Scene, number: int, taken: Sequence[int], rule: str, side: int) -> list[tuple[str, Image.Image]]:
    """For each level its title and its candidates, coloured by cost from the cheapest to the dearest of all levels.

    Args:
        number: the object. taken: anchors that SimOTA gives it, which get a white ring.
        rule: SimOTA's. side: of a panel, at most, in pixels.
    """
    found = costs(scene, number, rule)
    left, top, right, bottom = window(scene, number, found)
    zoom = max(1, side // max(right - left, bottom - top))
    least, most = (found.values.min(), found.values.max()) if len(found.values) else (0.0, 0.0)
    spread = max(most - least, 1e-9)
    drawn = []
    for stride in scene.levels:
        picture = faded(scene.image[top:bottom, left:right], zoom, keep=0.7)
        pen = ImageDraw.Draw(picture)
        level = scene.points.strides.numpy()[found.anchors] == stride
        for anchor, value in zip(found.anchors[level].tolist(), found.values[level].tolist(), strict=True):
            x, y = ((v - o) * zoom for v, o in zip(scene.points.centers[anchor].tolist(), (left, top), strict=True))
            _cell(pen, x, y, stride * zoom, value, shade((value - least) / spread), ringed=anchor in taken)
        box = scene.targets.boxes[0, number].tolist()
        pen.rectangle(
            [(v - o) * zoom for v, o in zip(box, (left, top, left, top), strict=True)], outline=color(number), width=3
        )
        got = sum(int(scene.points.strides[anchor]) == stride for anchor in taken)
        drawn.append((f"stride {stride}: {int(level.sum())} candidates, {got} taken", picture))
    return drawn


def _cell(
    pen: ImageDraw.ImageDraw, x: float, y: float, side: float, value: float, fill: Color, *, ringed: bool
) -> None:
    half = side / 2 - 1
    pen.rectangle((x - half, y - half, x + half, y + half), fill=fill)
    if ringed:
        pen.ellipse((x - half, y - half, x + half, y + half), outline=(255, 255, 255), width=max(2, round(side / 16)))
    if side >= 26:
        size = min(20.0, side / 2.6)
        pen.text((x, y), f"{value:.1f}", fill=text_color(fill), font=font(size, True), anchor="mm")

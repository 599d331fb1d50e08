"""SimOTA's cost of one object, cell by cell, a panel for each level of the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from leyolo.explain.panels import faded
from leyolo.explain.scene import Scene
from leyolo.ops import simota_cost
from leyolo.predict.draw import Color, color, font, text_color

PENALTY = 1e5
"""Costs from here on carry the penalty of lying off the centre: drawn as no candidate."""
TOPK = 10
"""How many IoUs SimOTA sums up for k."""
_MARGIN = 8.0
_SCALE: NDArray[np.float64] = np.array([[0, 104, 55], [102, 189, 99], [254, 224, 139], [244, 109, 67], [165, 0, 38]])


class Costs(NamedTuple):
    """Of one object: candidates' positions int64 [n] and costs float64 [n]."""

    anchors: NDArray[np.int64]
    values: NDArray[np.float64]


class Candidate(NamedTuple):
    """One of an object's candidates: its centre and stride in input pixels, the IoU of its predicted box with the
    object, its probability of the object's class, the cost of the two, and whether it is the object's in the end."""

    x: float
    y: float
    stride: float
    iou: float
    probability: float
    cost: float
    taken: bool


class Candidates(NamedTuple):
    """``rows``: the cheapest first. ``iou_sum``: of the 10 largest IoUs over all candidates of the picture, whose whole
    part is ``k``, at least 1."""

    rows: list[Candidate]
    iou_sum: float
    k: int


RULES = {"simota": "main", "simota-v030": "v030"}
"""SimOTA's rule by the name of the assigner."""


def candidates(scene: Scene, number: int, rule: str, taken: Sequence[int]) -> Candidates:
    """What SimOTA decides on for object ``number``; ``taken`` are the anchors that it got."""
    found = costs(scene, number, rule)
    logits = scene.cls_logits[0, :, int(scene.targets.labels[0, number])]
    probability = logits.sigmoid()
    if scene.obj_logits is not None:
        probability = (probability * scene.obj_logits[0].sigmoid()).sqrt()
    _, iou = _matrices(scene, rule)
    rows = []
    for at in np.argsort(found.values, kind="stable").tolist():
        anchor = int(found.anchors[at])
        x, y = scene.points.centers[anchor].tolist()
        numbers = (float(scene.points.strides[anchor]), float(iou[0, number, anchor]), float(probability[anchor]))
        rows.append(Candidate(x, y, *numbers, float(found.values[at]), anchor in taken))
    largest = iou[0, number].topk(min(TOPK, iou.shape[2])).values.sum()
    return Candidates(rows, float(largest), max(1, int(largest)))


def costs(scene: Scene, number: int, rule: str) -> Costs:
    """SimOTA's candidates of object ``number`` and what they cost it (``leyolo.ops.simota_cost``)."""
    row = _matrices(scene, rule)[0][0, number].double().numpy()
    anchors = np.flatnonzero(row < PENALTY)
    return Costs(anchors, row[anchors])


def _matrices(scene: Scene, rule: str) -> tuple[Tensor, Tensor]:
    """Costs and IoUs [1, G, A]."""
    targets = scene.targets
    return simota_cost(
        scene.cls_logits,
        scene.obj_logits,
        scene.boxes,
        *(targets.boxes, targets.labels, targets.counts),
        *scene.points,
        rule=rule,
        fmt="xyxy",
    )


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
    """For each level its title and its candidates, coloured by cost (its logarithm) from the cheapest to the dearest of
    all levels.

    Args:
        number: the object. taken: anchors that SimOTA gives it, which get a white ring.
        rule: SimOTA's. side: of a panel, about, in pixels.
    """
    found = costs(scene, number, rule)
    view = window(scene, number, found)
    zoom = max(1, round(side / max(view[2] - view[0], view[3] - view[1])))
    heights = np.log1p(found.values - found.values.min(initial=np.inf))
    shades = [shade(float(height / max(heights.max(), 1e-9))) for height in heights]
    drawn = []
    for stride in scene.levels:
        level = (scene.points.strides.numpy()[found.anchors] == stride).nonzero()[0].tolist()
        picture = faded(scene.image[view[1] : view[3], view[0] : view[2]], zoom, keep=0.7)
        pen = ImageDraw.Draw(picture)
        cells = [_cell(scene, int(found.anchors[at]), stride, view, zoom) for at in level]
        for at, (x, y, half) in zip(level, cells, strict=True):
            pen.rectangle((x - half, y - half, x + half, y + half), fill=shades[at])
        box = scene.targets.boxes[0, number].tolist()
        corners = [(v - o) * zoom for v, o in zip(box, (*view[:2], *view[:2]), strict=True)]
        pen.rectangle(corners, outline=color(number), width=3)
        for at, (x, y, half) in zip(level, cells, strict=True):
            if int(found.anchors[at]) in taken:
                pen.ellipse((x - half, y - half, x + half, y + half), outline="white", width=max(2, round(half / 8)))
            if half >= 12:
                face = font(min(20.0, half / 1.3), True)
                text = f"{found.values[at]:.1f}"
                pen.text((x, y), text, fill=text_color(shades[at]), font=face, anchor="mm")
        got = sum(int(scene.points.strides[anchor]) == stride for anchor in taken)
        drawn.append((f"stride {stride}: {len(level)} candidates, {got} taken", picture))
    return drawn


def _cell(
    scene: Scene, anchor: int, stride: int, view: tuple[int, int, int, int], zoom: int
) -> tuple[float, float, float]:
    """Centre and half side of an anchor's cell in a panel."""
    x, y = scene.points.centers[anchor].tolist()
    return (x - view[0]) * zoom, (y - view[1]) * zoom, stride * zoom / 2 - 1

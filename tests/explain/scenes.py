"""Scenes with known predictions, for the tests of ``leyolo explain``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from leyolo.data.batch import Targets
from leyolo.explain.scene import Scene
from leyolo.train.assign import anchors


def scene(boxes: Sequence[Sequence[float]], *, side: int = 96, classes: int = 2, perfect: bool = True) -> Scene:
    """A square input without padding, strides 8, 16 and 32, objects of class 0. ``perfect``: every anchor predicts the
    first object whose box holds its centre; otherwise all predict a far corner."""
    points = anchors(side, side, (8, 16, 32))
    truth = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    predicted = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(points.centers), 1)
    if perfect:
        for box in reversed(truth):
            inside = ((points.centers > box[:2]) & (points.centers < box[2:])).all(1)
            predicted[inside] = box
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    return Scene(
        image=noise,
        content=(0, 0, side, side),
        scale=1.0,
        targets=Targets(
            truth[None],
            torch.zeros(1, len(truth), dtype=torch.int64),
            torch.tensor([len(truth)]),
            torch.zeros(1, dtype=torch.int64),
        ),
        names=tuple("thing" for _ in boxes),
        cls_logits=torch.randn(1, len(points.centers), classes, generator=torch.Generator().manual_seed(0)),
        obj_logits=None,
        boxes=predicted[None],
        points=points,
    )

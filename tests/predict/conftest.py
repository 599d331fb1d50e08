"""A model small enough for a test: an engine that answers with boxes it was told, in place of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from leyolo.predict.coco import NAMES
from leyolo.predict.pipeline import Pipeline
from leyolo.predict.results import Results


class FakeEngine:
    """One anchor per 32-pixel cell. A cell with a bright centre answers "class 0, one stride to each side", all others
    nothing. The test picture at its own size in a square thus gives the box [0, 0, 48, 32]."""

    reg_max = 4

    def __init__(self, num_classes: int = 3) -> None:
        self.num_classes = num_classes
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        self.batches.append(x.shape)
        batch, height, width, _ = x.shape
        cells = (height // 32) * (width // 32)
        logits = np.full((batch, cells, 4 * self.reg_max + self.num_classes), -20, np.float32)
        centre = x[:, 16::32, 16::32, 0].reshape(batch, cells)
        logits[..., : 4 * self.reg_max].reshape(batch, cells, 4, self.reg_max)[..., 1] = 20  # distance: 1 stride
        logits[..., 4 * self.reg_max] = np.where(centre > 0.9, 2 + centre, -20)
        return logits


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def pipeline(engine: FakeEngine) -> Pipeline:
    return Pipeline(engine, num_classes=3, strides=(32,))


@pytest.fixture
def names() -> dict[int, str]:
    return {0: "cell", 1: "dot", 2: "ring"}


@pytest.fixture
def results() -> Callable[..., Results]:
    """Results from rows ``x1 y1 x2 y2 conf class`` on a grey picture, with COCO's names."""

    def make(rows: Sequence[Sequence[float]], size: tuple[int, int] = (120, 160), path: str = "dir/a.jpg") -> Results:
        image = np.full((*size, 3), 90, np.uint8)
        speed = {"preprocess": 1.0, "inference": 2.0, "postprocess": 0.5}
        return Results(image, path, dict(enumerate(NAMES)), np.array(rows, np.float32).reshape(-1, 6), speed=speed)

    return make


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small picture with one bright square and returns its path."""

    def make(name: str = "a.png", size: tuple[int, int] = (64, 96), folder: Path = tmp_path, **save: object) -> Path:
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[:32, :32] = 255
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **save)
        return path

    return make

"""A small picture set that a network can learn in seconds, and runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo.train import Settings, TrainResult, train

SIDE = 128
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}


def draw_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """A COCO json of ``count`` pictures with one to three plain boxes each, a class a colour."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(COLOURS, 1)]
    for picture in range(count):
        pixels = random.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
        for slot in random.permutation(4)[: random.integers(1, 4)].tolist():
            left, top = 64 * (slot % 2), 64 * (slot // 2)
            width, height = random.integers(24, 56, 2).tolist()
            x, y = left + int(random.integers(0, 64 - width)), top + int(random.integers(0, 64 - height))
            label = int(random.integers(1, 4))
            pixels[y : y + height, x : x + width] = list(COLOURS.values())[label - 1]
            box = {"id": len(content["annotations"]) + 1, "image_id": picture, "category_id": label}
            content["annotations"].append(box | {"bbox": [x, y, width, height]})
        name = f"{picture:03d}.png"
        Image.fromarray(pixels).save(folder / name)
        content["images"].append({"id": picture, "file_name": name, "width": SIDE, "height": SIDE})
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of them here."""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The json of eight pictures."""
    return draw_pictures(tmp_path_factory.mktemp("pictures"), 8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


PLAIN = {
    "imgsz": SIDE, "batch": 4, "mosaic": 0.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0,
    "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "plots": False,
}  # fmt: skip
"""Short runs on the pictures as they are."""


@pytest.fixture
def run(pictures: Path, tmp_path: Path) -> Callable[..., TrainResult]:
    """``run(name="a", epochs=2, …)``: a quiet training of nano on the eight pictures."""
    from leyolo.train.settings import make

    def go(start: Any = "n", **values: Any) -> TrainResult:
        settings: Settings = make({"data": str(pictures), "project": str(tmp_path), "name": "run", **PLAIN, **values})
        return train(settings, start, quiet=True)

    return go


@pytest.fixture
def draw() -> Callable[[Path, int], Path]:
    return draw_pictures

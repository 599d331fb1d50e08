"""What ships inside the package: weights that find the drawn objects, and a picture of some."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo import LeYOLO, weights
from leyolo._C import box_iou
from leyolo.assets import DEFAULT, PACKAGED, SAMPLE
from leyolo.cli import main
from leyolo.data.shapes import NAMES, picture, write_shapes

SAMPLE_SEED = 13


def test_weights_are_small_and_ours() -> None:
    assert DEFAULT in PACKAGED
    for path in PACKAGED.values():
        assert path.stat().st_size <= 2_500_000
        assert weights.load(path).metadata["license"] == "Apache-2.0"
    assert tuple(LeYOLO(DEFAULT).names.values()) == NAMES


def test_weights_find_drawn_objects(tmp_path: Path) -> None:
    """Pictures of another seed than that of training."""
    data = write_shapes(tmp_path, images=150, imgsz=320, seed=99, val=0.99)
    metrics = LeYOLO(None).val(data, imgsz=320)
    assert metrics.images == 148
    assert metrics.map50 > 0.84
    assert metrics.map > 0.69


def test_the_picture_is_of_the_dataset_and_its_objects_are_found() -> None:
    drawn = picture(SAMPLE_SEED, 0, 640)
    shown = np.asarray(Image.open(SAMPLE))
    assert np.abs(shown.astype(int) - drawn.image).mean() < 6  # JPEG
    (found,) = LeYOLO(None)(SAMPLE)
    iou = box_iou(drawn.boxes, found.boxes.xyxy.astype(np.float32))
    same = drawn.labels[:, None] == found.boxes.cls[None].astype(int)
    assert ((iou > 0.5) & same).any(1).mean() > 0.8
    assert ((iou > 0.5) & same).any(0).mean() > 0.8


def test_the_bare_command_works_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).mkdir()  # in the way of nothing
    assert main(["predict"]) == 0
    boxed = np.asarray(Image.open("runs/detect/predict/shapes.jpg"))
    assert np.abs(boxed.astype(int) - np.asarray(Image.open(SAMPLE))).max() > 100  # boxes are drawn

"""Accuracy on 100 natural images, against what the official implementation scores there with the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import leyolo._C as C
from leyolo import LeYOLO

NAMES = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "mar_100")
OFFICIAL = {
    320: dict(zip(NAMES, (0.53425, 0.75731, 0.61928, 0.13681, 0.38234, 0.63978, 0.68568), strict=True)),
    480: dict(zip(NAMES, (0.58450, 0.77171, 0.65243, 0.17582, 0.48325, 0.68233, 0.76054), strict=True)),
    640: dict(zip(NAMES, (0.60819, 0.81969, 0.67889, 0.23244, 0.52548, 0.68518, 0.75537), strict=True)),
}
"""Square letterbox with scale-up, confidence 0.001, IoU 0.7, multi-label, 300 boxes of 80 classes, VOC's 20 kept."""


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> LeYOLO:
    return LeYOLO(request.getfixturevalue("shared") / "weights" / "LeYOLONano.pt")


@pytest.mark.parametrize("imgsz", list(OFFICIAL))
def test_map_is_the_official_one(imgsz: int, model: LeYOLO, shared: Path) -> None:
    folder = shared / "data" / "voc100"
    metrics = model.val(folder / "instances.json", images=folder / "JPEGImages", imgsz=imgsz)
    assert metrics.images == 100
    for name, expected in OFFICIAL[imgsz].items():
        assert getattr(metrics, name) == pytest.approx(expected, abs=0.001 if name == "map" else 0.003)


@pytest.mark.skipif(not C.cpu_features()["bf16_dot"], reason="this CPU has no AVX512-BF16, or LEYOLO_ISA lowers it")
@pytest.mark.parametrize("imgsz", list(OFFICIAL))
def test_bfloat16_keeps_the_map(imgsz: int, model: LeYOLO, shared: Path) -> None:
    folder = shared / "data" / "voc100"
    half = LeYOLO(shared / "weights" / "LeYOLONano.pt", dtype="bf16")
    found, expected = (
        m.val(folder / "instances.json", images=folder / "JPEGImages", imgsz=imgsz) for m in (half, model)
    )
    assert found.map == pytest.approx(expected.map, abs=0.003)


def test_the_command(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "voc100"
    target = tmp_path / "metrics.json"
    command = [sys.executable, "-m", "leyolo", "val", "--model", str(shared / "weights" / "LeYOLONano.pt"), "--data",
               str(folder / "instances.json"), "--images", str(folder / "JPEGImages"), "--imgsz", "320",
               "--json", str(target)]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    assert run.returncode == 0, run.stderr
    assert "AP  at IoU 0.50:0.95" in run.stdout
    numbers = json.loads(target.read_text())
    assert numbers["map"] == pytest.approx(OFFICIAL[320]["map"], abs=0.001)
    assert set(numbers["per_class"]) >= {"aeroplane", "person", "tvmonitor"}
    assert len([key for key in numbers if key.startswith(("map", "mar"))]) == 12

"""What docs/assignment.md prints is what the command prints."""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from leyolo.explain import assigners, heat, truths
from leyolo.explain.scene import Predictor
from leyolo.predict.images import read_image

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_worked_example(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    street = tmp_path / "street.png"
    monkeypatch.setattr(sys, "argv", ["street.py", str(street)])
    runpy.run_path(str(DOCS / "street.py"), run_name="__main__")
    found = replace(truths.from_labels(DOCS / "street.txt", street), names=None)
    predictor = Predictor(str(shared / "weights" / "LeYOLONano.pt"), None)
    scene = predictor.scene(read_image(street), found, 320)
    assert scene.names == ("stop sign", "traffic light", "clock")
    share = assigners.shares("simota", scene, assigners.run("simota", scene))[1]
    candidates = heat.candidates(scene, 1, "main", share.anchors)
    text = (DOCS / "assignment.md").read_text()
    said = re.search(r"largest IoUs sum to ([\d.]+), so k is (\d+); (\d+) candidates", text)
    assert said is not None
    assert float(said[1]) == pytest.approx(candidates.iou_sum, abs=0.01)
    assert (int(said[2]), int(said[3])) == (candidates.k, len(candidates.rows))
    rows = re.findall(r"^(\d+), (\d+) +(\d+) +([\d.]+) +([\d.]+) +([\d.]+)( +taken)?$", text, re.MULTILINE)
    assert len(rows) == 12
    for row, candidate in zip(rows, candidates.rows, strict=False):
        expected = (candidate.iou, candidate.probability, candidate.cost)
        assert [float(v) for v in row[3:6]] == pytest.approx(expected, abs=0.01)  # instruction sets round differently
        assert bool(row[6]) == candidate.taken


def test_the_picture_is_small() -> None:
    assert (DOCS / "assignment.png").stat().st_size < 200_000

"""``LeYOLO.val`` with a stand-in for the network: pictures are files, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotated import write_coco
from leyolo.eval.model import evaluate
from leyolo.predict.pipeline import Detections, Settings


def pipeline(pictures: Sequence[Any], settings: Settings) -> list[Detections]:
    """Finds the tvmonitor of :func:`write_coco`'s a.jpg in every picture."""
    box = np.array([[10, 10, 50, 50]], np.float32)
    return [Detections(box, np.array([0.9], np.float32), np.array([0])) for _ in pictures]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.mp4", "a*.jpg", "7", "noend"])
def test_a_picture_is_read_whatever_its_name(name: str, tmp_path: Path) -> None:
    """Not as a list, a video, a pattern or a camera."""
    images = [{"id": 7, "file_name": name}, {"id": 9, "file_name": "b.jpg"}]
    path = write_coco(tmp_path, images=images)
    (tmp_path / "a.jpg").rename(tmp_path / name)
    metrics = evaluate(pipeline, {0: "tvmonitor", 1: "person"}, path, Settings(), split="val")  # type: ignore[arg-type]
    assert (metrics.problems, metrics.detections) == ((), 2)
    assert metrics.per_class["tvmonitor"] == pytest.approx(1.0)

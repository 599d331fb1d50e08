"""Whatever an annotation file holds: a Dataset that keeps its promises, or an error that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotated import ANNOTATION, voc_xml, write_coco, write_voc, write_yolo
from leyolo.data import DataError, Dataset, read
from leyolo.eval.metrics import score

Write = Callable[[Path], tuple[Path, Path]]
"""Makes a dataset in a folder: what to read, and the file to damage."""


def coco(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    path = write_coco(folder)
    return path, path


def voc(folder: Path) -> tuple[Path, Path]:
    write_voc(folder, {"a": [("cat", (10, 20, 50, 60))] * 3, "b": [("dog", (1, 2, 30, 40))]})
    return folder, folder / "Annotations" / "a.xml"


def yolo(folder: Path) -> tuple[Path, Path]:
    write_yolo(folder, {"val": {"a": "0 0.5 0.5 0.2 0.2\n1 0.1 0.2 0.1 0.1\n" * 3, "b": "1 0.5 0.5 0.9 0.9"}})
    return folder, folder / "labels" / "val" / "a.txt"


def described(folder: Path) -> tuple[Path, Path]:
    yolo(folder)
    path = folder / "data.yaml"
    path.write_text("path: .\ntrain: images/val\nval: images/val\nnc: 2\nnames:\n  0: cat\n  1: dog\n")
    return path, path


def promises(data: Dataset) -> None:
    """What the class says about itself."""
    count = len(data.labels)
    assert data.offsets[0] == 0
    assert data.offsets[-1] == count
    assert (np.diff(data.offsets) >= 0).all()
    assert len(data.offsets) == len(data.images) + 1
    assert data.boxes.shape == data.annotated.shape == (count, 4)
    assert len(data.names) == len(data.categories)
    assert count == 0 or 0 <= data.labels.min() <= data.labels.max() < len(data.names)
    for at, image in enumerate(data.images):
        boxes = data.boxes[data.rows(at)]
        assert (boxes >= 0).all()
        assert (boxes <= np.array([image.width, image.height] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert np.isfinite(data.annotated).all()
    assert np.isfinite(data.areas).all()
    assert all(str(problem) for problem in data.problems)


def read_or_refuse(path: Path) -> None:
    try:
        data = read(path, split="val")
    except DataError:
        return
    promises(data)


Cuts = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 40), st.binary(max_size=20)), max_size=4)


@pytest.mark.parametrize("write", [coco, voc, yolo, described])
def test_damaged_bytes(write: Write, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "d"
    path, file = write(folder)
    whole = file.read_bytes()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(Cuts)
    def damage(cuts: list[tuple[int, int, bytes]]) -> None:
        content = whole
        for at, length, new in cuts:
            start = at % (len(content) + 1)
            content = content[:start] + new + content[start + length :]
        file.write_bytes(content)
        read_or_refuse(path)

    damage()


Nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([7, 9, 3, 5]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def test_nonsense_in_every_field(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    content = json.loads(path.read_text())
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "file_name", "width", "height", "name")
    rows = st.dictionaries(st.sampled_from(keys), Nonsense | st.lists(st.floats(), min_size=4, max_size=4), max_size=4)

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(rows | Nonsense, max_size=4), st.lists(rows | Nonsense, max_size=2))
    def fill(annotations: list[Any], images: list[Any]) -> None:
        more = [ANNOTATION | row if isinstance(row, dict) else row for row in annotations]
        changed = {**content, "annotations": [*content["annotations"], *more], "images": [*content["images"], *images]}
        path.write_text(json.dumps(changed))
        data = read(path, split="val")
        promises(data)
        assert len(data) >= 2  # what is good stays

    fill()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(*[st.floats(width=32) | st.integers(-300, 300)] * 4), max_size=6))
def test_any_coordinates(tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[Any, ...]]) -> None:
    folder = write_voc(tmp_path_factory.mktemp("any") / "v", {"a": []})
    (folder / "Annotations" / "a.xml").write_text(voc_xml([("cat", box) for box in boxes]))
    try:
        data = read(folder, split="val")
    except DataError as error:
        pytest.fail(str(error))
    promises(data)
    assert len(data.labels) + sum(p.costs == "box" and "training" not in p.text for p in data.problems) == len(boxes)


def test_evaluation_of_extreme_boxes(tmp_path: Path) -> None:
    """Boxes as large as a number may be are scored, not multiplied to infinity."""
    from leyolo.eval.detections import Detections

    huge = [ANNOTATION | {"id": n, "bbox": [-1e99, -1e99, 9e99, 9e99], "area": 100} for n in range(3)]
    data = read(write_coco(tmp_path, annotations=[ANNOTATION, *huge]), split="val")
    found = Detections(np.array([0]), np.array([[10.0, 10, 40, 40]]), np.array([0.9]), np.array([0]))
    with np.errstate(all="raise"):
        metrics, _ = score(data, found)
    assert 0 < metrics.map < 1

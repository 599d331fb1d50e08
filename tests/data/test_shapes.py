"""The generated dataset: the same for the same numbers, and boxes that fit what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo.data import read, shape_pictures
from leyolo.data.shape_pictures import NAMES, draw
from leyolo.data.shapes import picture, write_shapes
from leyolo.errors import UsageError


def test_a_picture_depends_on_seed_and_index_alone() -> None:
    first = picture(3, 5, 96)
    again = picture(3, 5, 96)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in ((3, 6), (4, 5)):
        assert not np.array_equal(picture(*other, 96).image, first.image)


@pytest.mark.parametrize("size", [64, 97, 320])
def test_boxes_are_those_of_what_is_seen(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a plain ground, flat paint and no noise, every box is that of its object's colour."""
    paints = iter(range(1, 10_000))
    monkeypatch.setattr(shape_pictures, "_background", lambda size, random: np.zeros((size, size, 3), np.float32))
    monkeypatch.setattr(shape_pictures, "_camera", lambda image, random: image)

    def flat(behind: Any, mask: Any, random: Any) -> Any:
        return np.where(mask[..., None] > 0.5, np.float32(next(paints)), behind)

    monkeypatch.setattr(shape_pictures, "_painted", flat)
    for seed in range(6):
        paints = iter(range(1, 10_000))
        drawn = draw(size, np.random.default_rng(seed))
        assert 1 <= len(drawn.boxes) <= 14
        assert (drawn.boxes.dtype, drawn.labels.dtype) == (np.float32, np.int64)
        for at, (x1, y1, x2, y2) in enumerate(drawn.boxes.tolist(), 1):
            rows, columns = (np.flatnonzero((drawn.image[..., 0] == at).any(axis)) for axis in (1, 0))
            assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == [x1, y1, x2, y2]


def test_classes_and_sizes_are_spread() -> None:
    drawn = [picture(0, index, 160) for index in range(80)]
    labels = np.concatenate([each.labels for each in drawn])
    counts = np.bincount(labels, minlength=len(NAMES))
    assert len(NAMES) == 10
    assert counts.min() > 0.4 * counts.mean()
    sides = np.concatenate([(each.boxes[:, 2:] - each.boxes[:, :2]).max(1) for each in drawn])
    assert (sides < 16).mean() > 0.1
    assert (sides > 60).mean() > 0.1
    assert all(each.image.shape == (160, 160, 3) and each.image.dtype == np.uint8 for each in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_outlines_fill_their_circle(name: str) -> None:
    outline, _ = shape_pictures._OUTLINES[name]
    radii = np.hypot(*outline.T)
    assert 0.9 < radii.max() < 1.3
    mask = shape_pictures._mask(name, 40.0, np.random.default_rng(0))
    assert 0.15 < (mask > 0.5).mean() < 0.9
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    assert all(edge.max() < 0.9 for edge in edges)  # the patch holds all of it


def test_the_dataset_reads_back(tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    path = write_shapes(
        tmp_path / "s", images=10, imgsz=64, seed=1, progress=lambda done, total: ticks.append((done, total))
    )
    assert ticks == [(n, 10) for n in range(1, 11)]
    train, val = (read(path, split=split) for split in ("train", "val"))
    assert (len(train), len(val), train.names) == (8, 2, NAMES)
    assert train.problems == val.problems == ()
    drawn = picture(1, 9, 64)
    assert np.array_equal(val.boxes[val.rows(1)], drawn.boxes)
    assert np.array_equal(val.labels[val.rows(1)], drawn.labels)
    with Image.open(val.images[1].path) as image:
        assert np.abs(np.asarray(image).astype(int) - drawn.image).mean() < 6  # JPEG
    ids = [row["id"] for row in json.loads((tmp_path / "s" / "annotations" / "train.json").read_text())["annotations"]]
    assert len(set(ids)) == len(ids)
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}
    write_shapes(tmp_path / "s", images=10, imgsz=64, seed=1)
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before


def test_an_interrupted_run_leaves_no_annotations(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    write_shapes(tmp_path, images=4, imgsz=64, seed=1)  # whose annotations would be wrong for the pictures of the next
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path, images=10, imgsz=64, progress=stop)
    assert [p.name for p in tmp_path.rglob("*") if p.suffix in (".json", ".yaml", ".tmp")] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 1}, "images must be 2 or more"),
        ({"imgsz": 32}, r"imgsz must be within 64\.\.4096, got 32"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"val": 1.0}, "val must be between 0 and 1"),
    ],
)
def test_bad_numbers_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        write_shapes(tmp_path / "s", **{"images": 4, **change})
    assert not (tmp_path / "s").exists()

"""What ``leyolo data check`` and ``stats`` find."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotated import ANNOTATION, write_coco, write_voc, write_yolo
from leyolo.data import DataError, read
from leyolo.data.check import check, parts, plot_statistics, statistics
from leyolo.data.splits import splits
from leyolo.errors import MissingDependencyError

CAT, DOG = ("cat", (10, 20, 50, 60)), ("dog", (0, 0, 100, 120))


def test_splits(tmp_path: Path) -> None:
    lists = {name: ["a"] for name in ("trainval", "test", "val", "train", "cat_train")}
    assert splits(write_voc(tmp_path / "v", {"a": [CAT]}, **lists)) == ["train", "val", "test"]
    assert splits(write_voc(tmp_path / "w", {"a": [CAT]}, mine=["a"])) == ["mine"]
    assert splits(write_voc(tmp_path / "x", {"a": [CAT]})) == ["all"]
    assert splits(write_yolo(tmp_path / "y", {"valid": {"a": ""}, "train": {"b": ""}})) == ["train", "val"]
    assert splits(write_coco(tmp_path)) == ["all"]
    for text, found in (
        ("mine: v\nyours: w\n", ["mine", "yours"]),
        ("mine: v\nval: w\n", ["val"]),
        ("nc: 2\n", ["all"]),
    ):
        (tmp_path / "data.yaml").write_text(text)
        assert splits(tmp_path / "data.yaml") == found


def test_check_reads_the_keys_of_a_yaml_that_are_there(tmp_path: Path) -> None:
    write_voc(tmp_path / "a", {"a": [CAT]})
    (tmp_path / "data.yaml").write_text("mine: a\n")
    assert [(part.split, len(part.dataset)) for part in check(tmp_path / "data.yaml")] == [("mine", 1)]
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    with pytest.raises(DataError, match=r"has no split$"):
        check(tmp_path / "data.yaml")


def test_check_reads_all_splits_and_pictures(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CAT], "b": [DOG], "c": [CAT]}, train=["a", "b"], val=["c"])
    pictures = folder / "JPEGImages"
    shutil.copy(pictures / "a.jpg", pictures / "c.jpg")
    # Whole to its end, but with a hole: only decoding shows it.
    content = bytearray((pictures / "b.jpg").read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = b"\xff\xd8" * 200
    (pictures / "b.jpg").write_bytes(content)
    ticks: list[int] = []
    train, val = check(folder, progress=lambda done, total: ticks.append(done))
    assert (ticks, train.split, val.split) == ([1, 2, 3], "train", "val")
    assert train.dataset.names == val.dataset.names == ("cat", "dog")
    assert [(p.where, p.costs) for p in train.problems] == [("picture b.jpg", "picture")]
    assert [str(p) for p in val.problems] == ["val: picture c.jpg: is the same file as a.jpg of train"]
    (alone,) = check(folder, split="val")
    assert alone.problems == ()


def test_one_folder_of_pictures_is_not_two_splits(tmp_path: Path) -> None:
    line = "0 .5 .5 .2 .2"
    folder = write_yolo(tmp_path, {"train": {"a": line}, "val": {"b": line}})
    names = [name for name, _ in parts(folder, images=folder / "images")]
    assert names == ["train", "val"]
    assert [name for name, _ in parts(folder, images=folder / "images" / "train")] == ["all"]
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    assert len(parts(folder)) == 2
    with pytest.raises(DataError, match="train and val would both be its pictures"):
        parts(folder, images=folder / "images" / "train")
    ((_, alone),) = parts(folder, split="train", images=folder / "images" / "train")
    assert [image.id for image in alone.images] == ["a"]


def test_statistics(tmp_path: Path) -> None:
    annotations = [
        ANNOTATION,
        ANNOTATION | {"id": 2, "bbox": [0, 0, 10, 10], "iscrowd": 1},
        ANNOTATION | {"id": 3, "category_id": 5, "bbox": [0, 0, 150, 100]},
    ]
    found = statistics(read(write_coco(tmp_path, annotations=annotations), split="val"))
    assert found["classes"] == {"tvmonitor": {"objects": 2, "images": 1}, "person": {"objects": 1, "images": 1}}
    assert found["sizes"] == {"small": 1, "medium": 1, "large": 1}
    assert (found["images"], found["objects"], found["images_without_objects"], found["crowd"]) == (2, 3, 1, 1)
    assert found["objects_per_image"] == {"mean": 1.5, "most": 3}
    assert found["width"]["50"] == 40
    assert found["image_height"]["100"] == 150
    nothing = statistics(read(write_coco(tmp_path, annotations=[]), split="val"))
    assert (nothing["objects"], nothing["width"]) == (0, {})


def test_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    folder = write_voc(tmp_path / "v", {"a": [CAT], "b": [DOG], "c": []}, train=["a", "b"], val=["c"])
    plot_statistics(parts(folder), tmp_path / "p" / "stats.png")
    with Image.open(tmp_path / "p" / "stats.png") as image:
        assert np.ptp(np.asarray(image.convert("L"))) > 200
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'leyolo\[val\]'"):
        plot_statistics(parts(folder), tmp_path / "stats.png")


def test_the_borders_of_the_sizes_are_named_where_no_box_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the middle of the borders, where boxes that are about square lie."""
    pytest.importorskip("matplotlib")
    sides = [(x, y) for x in (28, 32, 36, 90, 96, 102, 110) for y in (0.9 * x, x, 1.1 * x)]
    folder = write_voc(tmp_path / "v", {"a": [("cat", (1, 1, 1 + x, 1 + y)) for x, y in [*sides, (198, 148)]]})
    kept: list[Any] = []
    monkeypatch.setattr("leyolo.eval.plots.save_figure", lambda drawn, path: kept.append(drawn))
    plot_statistics(parts(folder), tmp_path / "stats.png")
    (drawn,) = kept
    drawn.draw_without_rendering()
    axes = drawn.axes[1]
    points = axes.transData.transform(np.concatenate([each.get_offsets() for each in axes.collections]))
    labels = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(labels) == {"32²", "96²"}
    for name, place in labels.items():
        assert axes.bbox.contains(*place.p0), name
        assert axes.bbox.contains(*place.p1), name
        assert not any(place.padded(3).contains(*point) for point in points), name


def test_real_data(shared: Path) -> None:
    found = check(shared / "data" / "bccd")
    assert [(p.split, len(p.dataset), len(p.problems)) for p in found] == [
        ("train", 205, 1),
        ("val", 87, 1),
        ("test", 72, 0),
    ]


def test_statistics_of_a_stray_class_number_take_no_longer(tmp_path: Path) -> None:
    lines = ["65535 .5 .5 .2 .2", *(f"0 .5 .5 {0.1 + n / 1e5:.5f} .2" for n in range(5000))]
    data = read(write_yolo(tmp_path, {"val": {"a": "\n".join(lines), "b": lines[1]}}), split="val")
    started = time.thread_time()
    found = statistics(data)["classes"]
    assert time.thread_time() - started < 1  # class by class: several seconds
    assert len(found) == 65536
    assert (found["0"], found["65535"]) == ({"objects": 5001, "images": 2}, {"objects": 1, "images": 1})

"""The one door to every format, and the cache behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from annotated import ANNOTATION, Objects, write_coco, write_picture, write_voc, write_yolo
from leyolo.data import DataError, Dataset, cache, read
from leyolo.data.builder import Builder
from leyolo.data.dataset import PER_BOX, joined


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEYOLO_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "labels"


def age(folder: Path) -> None:
    """Sets every time stamp ten seconds back: what has changed just now is not kept."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, ns=(path.stat().st_mtime_ns - 10**10,) * 2)


def same(first: Dataset, second: Dataset) -> bool:
    arrays = all(np.array_equal(getattr(first, key), getattr(second, key)) for key in ("offsets", *PER_BOX))
    types = all(getattr(first, key).dtype == getattr(second, key).dtype for key in ("offsets", *PER_BOX))
    rest = all(getattr(first, key) == getattr(second, key) for key in ("images", "names", "categories", "problems"))
    return arrays and types and rest


def test_the_cache_gives_back_what_was_read(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    path = write_coco(tmp_path / "d", annotations=[ANNOTATION, ANNOTATION | {"bbox": [1, 2, 0, 4]}])
    age(tmp_path / "d")
    first = read(path, split="val")
    assert len(list(home.iterdir())) == 1
    monkeypatch.setattr(Builder, "picture", lambda *_: pytest.fail("read anew"))
    assert same(read(path, split="val"), first)
    assert first.problems


@pytest.mark.parametrize("change", ["label", "picture", "new", "gone", "damaged"])
def test_a_change_is_noticed(change: str, home: Path, tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "d", {"val": {"a": "0 0.5 0.5 0.2 0.2", "b": ""}})
    age(folder)
    assert read(folder, split="val").labels.tolist() == [0]
    (kept,) = home.iterdir()
    if change == "label":
        (folder / "labels" / "val" / "b.txt").write_text("0 0.5 0.5 0.4 0.4")
    elif change == "picture":
        write_picture(folder / "images" / "val" / "a.jpg", 100, 75)
    elif change == "new":
        write_picture(folder / "images" / "val" / "c.jpg")
    elif change == "gone":
        (folder / "images" / "val" / "b.jpg").unlink()
    else:
        kept.write_bytes(kept.read_bytes()[:200])
    data = read(folder, split="val")
    expected = {"label": (2, 2, 200), "picture": (2, 1, 100), "new": (3, 1, 200), "gone": (1, 1, 200)}
    assert (len(data), len(data.labels), data.images[0].width) == expected.get(change, (2, 1, 200))


def test_a_yaml_added_to_a_folder_is_noticed(home: Path, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "d", {"a": [("cat", (1, 2, 30, 40)), ("dog", (1, 2, 50, 60))]})
    age(folder)
    assert read(folder, split="val").names == ("cat", "dog")
    assert len(list(home.iterdir())) == 1
    (folder / "data.yaml").write_text("val: .\nnames: [dog]\n")
    assert read(folder, split="val").names == ("dog",)


def test_a_label_added_in_another_place_is_noticed(home: Path, tmp_path: Path) -> None:
    """Beside the picture, then in the usual place, which comes first."""
    write_picture(tmp_path / "d" / "images" / "a.jpg")
    listed = tmp_path / "d" / "list.txt"
    listed.write_text("images/a.jpg\n")
    age(tmp_path / "d")
    assert read(listed, split="val", names=("cat", "dog")).labels.tolist() == []
    for place, label in (("images", 1), ("labels", 0)):
        file = tmp_path / "d" / place / "a.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{label} .5 .5 .2 .2")
        age(file)
        assert read(listed, split="val", names=("cat", "dog")).labels.tolist() == [label], place
    assert len(list(home.iterdir())) == 1


def test_what_changed_just_now_is_not_kept(home: Path, tmp_path: Path) -> None:
    read(write_yolo(tmp_path / "d", {"val": {"a": "0 0.5 0.5 0.2 0.2"}}), split="val")
    assert not home.exists()


def test_the_cache_holds_no_pickle(home: Path, tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "d", {"val": {"a": "0 0.5 0.5 0.2 0.2"}})
    age(folder)
    read(folder, split="val")
    (kept,) = home.iterdir()
    with np.load(kept, allow_pickle=False) as arrays:
        assert {arrays[name].dtype.hasobject for name in arrays} == {False}
    np.savez(kept, text=np.array([{"sources": []}], object))  # a planted object is not opened
    assert cache.load(kept) is None


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEYOLO_HOME", str(tmp_path / "file"))
    folder = write_yolo(tmp_path / "d", {"val": {"a": "0 0.5 0.5 0.2 0.2"}})
    age(folder)
    assert len(read(folder, split="val")) == 1


def test_subset_and_joined(tmp_path: Path) -> None:
    data = read(write_coco(tmp_path), split="val")
    turned = data.subset([1, 0, 1])
    assert ([i.id for i in turned.images], turned.labels.tolist()) == ([9, 7, 9], [1, 0, 1])
    assert same(joined([data.subset([0]), data.subset([1])]), data)
    assert joined([data, turned]).offsets.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(data.subset([])) == 0


@pytest.mark.parametrize("name", ["gone", "a.bin", "empty"])
def test_what_has_no_format_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=name):
        read(tmp_path / name, split="val")


def unsplit(kind: str, folder: Path) -> Path:
    """Two pictures, in a form that is not split."""
    if kind == "coco":
        return write_coco(folder)
    pictures: dict[str, Objects] = {"a": [("cat", (1, 2, 30, 40))], "b": []}
    if kind == "voc":
        return write_voc(folder, pictures)
    if kind == "voc list":
        return write_voc(folder, pictures, mine=["a", "b"]) / "ImageSets" / "Main" / "mine.txt"
    yolo = write_yolo(folder, {"": {"a": "0 .5 .5 .2 .2", "b": ""}})
    (folder / "list.txt").write_text("images/a.jpg\nimages/b.jpg\n")
    return yolo if kind == "yolo" else yolo / "list.txt"


@pytest.mark.parametrize("kind", ["coco", "voc", "voc list", "yolo", "yolo list"])
def test_what_is_not_split_has_no_other_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(exist_ok=kind == "coco")
    path = unsplit(kind, tmp_path / "d")
    assert [len(read(path, split=split)) for split in ("train", "val", "test", "all")] == [2] * 4
    with pytest.raises(DataError, match=r"has no 'vla': it is not split.* Did you mean 'val'\?"):
        read(path, split="vla")
    # Under a yaml it may have any name.
    (tmp_path / "data.yaml").write_text(f"mine: {path.relative_to(tmp_path)}\nnames: [tvmonitor, person, cat]\n")
    assert len(read(tmp_path, split="mine")) == 2
    with pytest.raises(DataError, match="has no 'nc'"):
        read(tmp_path, split="nc")


def test_pictures_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read(write_coco(tmp_path), split="val", images=tmp_path / "nowhere")
    with pytest.raises(DataError, match="names must have at least one class"):
        read(write_coco(tmp_path), split="val", names=())


def test_reading_and_checking_import_nothing_heavy() -> None:
    modules = "leyolo.data, leyolo.data.check, leyolo.data.shapes, leyolo.data.augment, leyolo.data.order, leyolo.eval"
    heavy = {"torch", "cv2", "matplotlib", "yaml", "defusedxml", "faster_coco_eval"}
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

"""Reading YOLO labels and the yaml that describes data: values, and dirt that costs itself alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from annotated import write_coco, write_picture, write_voc, write_yolo
from leyolo.data import DataError, read
from leyolo.data.splits import splits

LINE = "1 0.5 0.4 0.2 0.2"
BOX = [80, 45, 120, 75]
"""Of LINE in 200 x 150 pixels."""


def test_values(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, {"train": {"b": f"{LINE}\n\n0 0.5 0.5 1 1\n", "a": ""}, "val": {"c": LINE}})
    (folder / "classes.txt").write_text("cat\ndog\n")
    data = read(folder, split="train")
    assert ([i.id for i in data.images], data.names, data.categories) == (["a", "b"], ("cat", "dog"), (0, 1))
    assert (data.offsets.tolist(), data.labels.tolist(), data.problems) == ([0, 0, 2], [1, 0], ())
    assert data.boxes.tolist() == [pytest.approx(BOX, abs=1e-4), [0, 0, 200, 150]]
    assert [i.id for i in read(folder, split="val").images] == ["c"]
    with pytest.raises(DataError, match="has no split 'test', but train, val"):
        read(folder, split="test")


def test_names_are_the_numbers_where_there_are_none(tmp_path: Path) -> None:
    assert read(write_yolo(tmp_path, {"val": {"a": LINE}}), split="val").names == ("0", "1")


def test_layouts(tmp_path: Path) -> None:
    for folder, picture, label in (
        ("one", "images/a.jpg", "labels/a.txt"),
        ("two", "valid/images/a.jpg", "valid/labels/a.txt"),
        ("three", "images/val/x/a.jpg", "labels/val/x/a.txt"),
        ("four", "a.jpg", "a.txt"),
    ):
        write_picture(tmp_path / folder / picture)
        (tmp_path / folder / label).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / label).write_text(LINE)
        assert read(tmp_path / folder, split="val").labels.tolist() == [1], folder
    listed = tmp_path / "list.txt"
    listed.write_text(f"one/images/a.jpg\n\n{tmp_path}/four/a.jpg\none/images/a.jpg\n")
    data = read(listed, split="val")
    assert (len(data), data.labels.tolist()) == (2, [1, 1])
    assert [str(p) for p in data.problems] == ["list.txt: file: names 1 pictures twice, they are taken once"]


def test_a_polygon_becomes_its_box(tmp_path: Path) -> None:
    data = read(write_yolo(tmp_path, {"val": {"a": "1 0.4 0.3 0.6 0.4 0.5 0.5"}}), split="val")
    assert data.boxes.tolist() == [pytest.approx(BOX, abs=1e-4)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 0.5 0.5 nan 0.2", "expected finite numbers, got '1 0.5 0.5 nan 0.2'"),
        ("1 0.5 0.5 1e99 0.2", "expected finite numbers"),
        ("cat 0.5 0.5 0.2 0.2", "expected numbers, got 'cat 0.5 0.5 0.2 0.2'"),
        ("2 0.5 0.5 0.2 0.2", "expected a class number of 0 to 1, got 2"),
        ("-1 0.5 0.5 0.2 0.2", "expected a class number of 0 to 1, got -1"),
        ("0.5 0.5 0.5 0.2 0.2", "expected a class number of 0 to 1, got 0.5"),
        ("1 0.5 0.5 0.2", "expected 'class cx cy w h'"),
        ("1 0.5 0.5 0.2 0.2 0.9", "expected 'class cx cy w h'"),
        ("1 0.5 0.5 0 0.2", "bbox has no area: [100, 60, 0, 30]"),
        ("1 0.5 0.5 -0.1 0.2", "bbox has no area"),
        ("1 1.5 0.5 0.2 0.2", "bbox is outside the picture of 200 x 150"),
        (LINE, "has the class and bbox of line 1: training leaves it out"),
        ("\ufffd\0", "expected 'class cx cy w h'"),
    ],
)
def test_a_bad_line_costs_itself(line: str, problem: str, tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, {"val": {"a": f"{LINE}\n{line}\n0 0.2 0.2 0.1 0.1"}})
    data = read(folder, split="val", names=("cat", "dog"))
    assert data.objects(0)[1].tolist() == [1, 0]
    assert [(p.where, p.costs) for p in data.problems] == [("line 2", "box")]
    assert problem in str(data.problems[0])


def test_a_box_just_outside_costs_nothing(tmp_path: Path) -> None:
    data = read(write_yolo(tmp_path, {"val": {"a": "0 1.0016 0.5 0.1 0.2"}}), split="val")
    assert data.boxes[0].tolist() == pytest.approx([190.32, 60, 200, 90], abs=1e-3)
    assert [p.costs for p in data.problems] == ["nothing"]


def test_pictures_without_any_label_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"none of its 1 pictures has a label; expected them in .*labels"):
        read(tmp_path, split="val")
    assert len(read(tmp_path, split="val", names=("cat",))) == 1


def describe(folder: Path, **content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_yaml_may_name_any_format(tmp_path: Path) -> None:
    write_yolo(tmp_path / "y", {"val": {"a": "0 0.5 0.4 0.2 0.2"}})
    write_voc(tmp_path / "v", {"b": [("tvmonitor", (80, 45, 120, 75))]}, val=["b"])
    (tmp_path / "c").mkdir()
    write_coco(tmp_path / "c")
    names = {0: "tvmonitor", 1: "person"}
    entries = ["y/images/val", "v", "v/ImageSets/Main/val.txt", "c/data.json"]
    path = describe(tmp_path / "yamls", path="..", val=entries, train="y", names=names, nc=2)
    data = read(path, split="val")
    assert ([i.id for i in data.images], data.names) == (["a", "b", "b", 7, 9], ("tvmonitor", "person"))
    assert (data.labels.tolist(), data.offsets.tolist()) == ([0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5])
    assert splits(path) == ["train", "val"]
    assert read(path.parent, split="val").names == data.names  # the folder of one yaml
    with pytest.raises(DataError, match="has no 'test', but train, val"):
        read(path, split="test")


def test_a_yaml_of_a_tool_that_writes_the_wrong_folder(tmp_path: Path) -> None:
    write_picture(tmp_path / "d" / "valid" / "images" / "a.jpg")
    (tmp_path / "d" / "valid" / "labels").mkdir()
    (tmp_path / "d" / "valid" / "labels" / "a.txt").write_text(LINE)
    path = describe(tmp_path / "d", val="../valid/images", names=["cat", "dog"])
    assert read(path, split="val").labels.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"val": "gone", "names": ["a"]}, "gone: no such file or folder; expected a COCO json"),
        ({"val": 5, "names": ["a"]}, "val must be a path or a list of paths, got '5'"),
        ({"val": [], "names": ["a"]}, "val must be a path or a list of paths"),
        ({"val": ".", "names": ["a", "b"], "nc": 3}, "nc is 3, but there are 2 names"),
        ({"val": ".", "names": {0: "a", 2: "b"}}, "names must number the classes 0 to 1"),
        ({"val": ".", "names": [["a"]]}, "names must be a list of class names"),
        ({"val": ".", "names": ["a", "A "]}, "class names must differ"),
        ({"val": ".", "path": 7, "names": ["a"]}, "path must be a folder, got '7'"),
        ({"train": "x"}, "has no 'val', but train"),
        ({}, "has no 'val', but no split at all"),
    ],
)
def test_a_bad_yaml_is_refused(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_voc(tmp_path / "d", {"b": [("a", (80, 45, 120, 75))]})
    with pytest.raises(DataError, match=message):
        read(describe(tmp_path / "d", **content), split="val")


@pytest.mark.parametrize("text", ["[1, 2]", "", "a: [", "!!python/object/apply:os.system ['true']", "\0"])
def test_what_is_no_yaml_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError):
        read(path, split="val")

"""Reading YOLO labels and the yaml that describes data: values, and dirt that costs itself alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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


def test_splits_of_every_layout(tmp_path: Path) -> None:
    """None of them may be taken for a whole: training would learn what it is validated on."""
    for folder, train, val in (
        ("one", "images/train/", "images/val/"),
        ("two", "train/images/", "valid/images/"),
        ("three", "train/", "validation/"),
    ):
        for stem, place in (("a", train), ("b", val), ("c", val)):
            picture = write_picture(tmp_path / folder / place / f"{stem}.jpg")
            label = tmp_path / folder / place.replace("images", "labels") / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(LINE)
        assert splits(tmp_path / folder) == ["train", "val"], folder
        found = [[image.id for image in read(tmp_path / folder, split=split).images] for split in ("train", "val")]
        assert found == [["a"], ["b", "c"]], folder
        assert splits(picture.parent) == ["all"]
        with pytest.raises(DataError, match="has no split 'test', but train, val"):
            read(tmp_path / folder, split="test")
    assert splits(tmp_path / "one" / "images") == ["train", "val"]


def test_a_class_called_train_is_no_split(tmp_path: Path) -> None:
    """In a folder for each class; but beside "valid", or a folder without pictures, it is."""
    for name in ("train", "bus"):
        write_picture(tmp_path / name / f"{name}.jpg").with_suffix(".txt").write_text(LINE)
    assert splits(tmp_path) == ["all"]
    assert [image.id for image in read(tmp_path, split="train").images] == ["bus", "train"]
    assert [image.id for image in read(tmp_path, split="bus").images] == ["bus"]  # asked for by its name
    (tmp_path / "valid").mkdir()
    assert splits(tmp_path) == ["train", "val"]
    (tmp_path / "valid").rename(tmp_path / "runs")
    (tmp_path / "bus" / "bus.jpg").unlink()
    assert splits(tmp_path) == ["train"]


@pytest.mark.parametrize("split", ["..", ".", "", "../b", "a/", "/"])
def test_a_split_is_a_plain_name(split: str, tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, {"a": {"a": LINE}, "b": {"b": LINE}})
    with pytest.raises(DataError, match="a split is the name of a list or folder, got"):
        read(folder / "images" / "a", split=split)


def test_pictures_elsewhere(tmp_path: Path) -> None:
    """With a folder for each split, or as a whole."""
    here = write_yolo(tmp_path / "here", {"train": {"a": LINE}, "val": {"b": LINE}})
    there = write_yolo(tmp_path / "there", {"train": {"c": LINE}, "val": {"d": LINE, "e": LINE}}) / "images"

    def ids(split: str, images: Path) -> list[Any]:
        return [image.id for image in read(here, split=split, images=images).images]

    assert (ids("train", there), ids("val", there), ids("val", there / "train")) == (["c"], ["d", "e"], ["c"])
    assert (splits(here, there), splits(here, there / "train")) == (["train", "val"], ["all"])
    with pytest.raises(DataError, match="images has no split 'test', but train, val"):
        ids("test", there)
    (tmp_path / "list.txt").write_text("train/c.jpg\nval/d.jpg\n")
    assert [image.id for image in read(tmp_path / "list.txt", split="val", images=there).images] == ["c", "d"]


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match=r"list\.txt: no picture in it"):
        read(tmp_path / "list.txt", split="val")


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
    data = read(tmp_path, split="val", names=("cat",))  # may be background, but is worth a line
    assert (len(data), [p.costs for p in data.problems]) == (1, ["nothing"])
    assert "none of its 1 pictures has a label; expected them in" in str(data.problems[0])


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


def test_the_key_images_is_that_of_jsons(tmp_path: Path) -> None:
    """Of folders and lists it would be the pictures of every split."""
    for stem in ("a", "b"):
        write_picture(tmp_path / stem / f"{stem}.jpg").with_suffix(".txt").write_text("0 .5 .5 .2 .2")
    pictures = tmp_path / "pics"
    pictures.mkdir()
    write_coco(pictures).rename(tmp_path / "c.json")
    path = describe(tmp_path, train="a", val=["b", "c.json"], images="pics", names=["tvmonitor", "person"])
    found = {split: [image.path for image in read(path, split=split).images] for split in ("train", "val")}
    assert found["train"] == [tmp_path / "a" / "a.jpg"]
    assert found["val"] == [tmp_path / "b" / "b.jpg", pictures / "a.jpg", pictures / "b.jpg"]


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
        ({"val": {"a": 1}, "names": ["a"]}, "val must be a path or a list of paths, got {'a': '1'}"),
        ({"val": [], "names": ["a"]}, "val must be a path or a list of paths"),
        ({"val": ".", "names": ["a", "b"], "nc": 3}, "nc is '3', but there are 2 names"),
        ({"val": ".", "names": {0: "a", 2: "b"}}, "names must number the classes 0 to 1"),
        ({"val": ".", "names": [["a"]]}, "names must be a list of class names"),
        ({"val": ".", "names": ["a", "a "]}, "class names must differ, got 'a' twice"),
        ({"val": ".", "path": [7], "names": ["a"]}, r"path must be a folder, got \['7'\]"),
        ({"train": "x"}, "has no 'val', but train"),
        ({"mine": "x", "tool": {"a": 1}}, "has no 'val', but mine$"),
        ({"names": ["a"]}, r"data\.yaml has no split$"),
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


@pytest.mark.parametrize("file", ["data.yaml", "classes.txt"])
def test_numbers_keep_their_names_whatever_order_is_asked_for(file: str, tmp_path: Path) -> None:
    """As where a model that has learnt "cat, dog" is measured on data that has "dog, cat"."""
    folder = write_yolo(tmp_path / "d", {"val": {"a": "0 .5 .5 .2 .2\n1 .5 .5 .4 .4\n2 .5 .5 .6 .6"}})
    names = ["dog", "cat", "cow"]
    if file == "data.yaml":
        describe(folder, val="images/val", names=names)
    else:
        (folder / file).write_text("\n".join(names))
    assert read(folder, split="val").labels.tolist() == [0, 1, 2]
    data = read(folder, split="val", names=("cat", "bird", "Dog"))
    assert (data.labels.tolist(), data.categories) == ([2, 0], (1, None, 0))
    assert [str(p) for p in data.problems] == ["a.txt: line 3: class 'cow' is not among the names given"]


def test_names_are_as_they_are_written(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"val": {"a": "3 .5 .5 .2 .2"}})
    text = "train: ~\ntest:\nval: images/val\nnames: [yes, no, 1.10, 2020-01-01, 012]\n"
    (tmp_path / "data.yaml").write_text(text)
    data = read(tmp_path, split="val")
    assert (data.names, data.labels.tolist()) == (("yes", "no", "1.10", "2020-01-01", "012"), [3])
    assert splits(tmp_path) == ["val"]


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("key", ["val", "path", "names", "nc"])
def test_a_yaml_that_multiplies_itself_is_refused_at_once(key: str, merge: bool, tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"] if merge else ["a0: &a0 [x]"]
    for n in range(1, 40):
        many = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} {{<<: [{many}]}}" if merge else f"a{n}: &a{n} [{many}]")
    known = {"val": ".", "path": ".", "names": "[a]", "nc": "1"} | {key: "*a39"}
    path = tmp_path / "data.yaml"
    path.write_text("\n".join([*lines, *(f"{name}: {value}" for name, value in known.items())]))
    with pytest.raises(DataError, match=r"must be|nc is|must number") as error:
        read(path, split="val")
    assert len(str(error.value)) < 1000


def test_byte_order_marks_are_no_damage(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, {"val": {"a": ""}})
    (folder / "labels" / "val" / "a.txt").write_bytes(b"\xef\xbb\xbf1 .5 .5 .2 .2\r\n")
    (folder / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\n\r\ndog\r\n\r\n")
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfimages/val/a.jpg\r\n")
    for source in (folder, folder / "list.txt"):
        data = read(source, split="val")
        # The class with the number of an empty line has that for a name.
        assert (data.names, data.labels.tolist(), data.problems) == (("cat", "1", "dog"), [1], ())


def test_labels_beside_a_picture_in_a_folder_called_images(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "images" / "mine" / "a.jpg")
    picture.with_suffix(".txt").write_text(LINE)
    assert np.allclose(read(picture.parent, split="val").boxes, [BOX], atol=1e-4)


def test_pictures_of_one_name_have_different_ids(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, {"val/x": {"a": LINE}, "val/y": {"a": LINE, "b": LINE}})
    assert [i.id for i in read(folder, split="val").images] == ["x/a.jpg", "y/a.jpg", "y/b.jpg"]
    assert [i.id for i in read(folder / "images" / "val" / "y", split="val").images] == ["a", "b"]

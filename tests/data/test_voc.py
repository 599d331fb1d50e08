"""Reading VOC folders: values, lists, and dirt that costs itself alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from annotated import voc_xml, write_picture, write_voc
from leyolo.data import DataError, read
from leyolo.errors import MissingDependencyError

CAT, DOG = ("cat", (10, 20, 50, 60)), ("dog", (0, 0, 100, 120))


def test_values_and_lists(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"b": [DOG, CAT], "a": [CAT], "c": []}, train=["b", "c"], val=["a"])
    train = read(folder, split="train")
    assert ([i.id for i in train.images], train.names) == (["b", "c"], ("cat", "dog"))
    assert (train.offsets.tolist(), train.labels.tolist(), train.problems) == ([0, 2, 2], [1, 0], ())
    assert train.boxes.tolist() == [[0, 0, 100, 120], [10, 20, 50, 60]]
    val = read(folder, split="val")
    # The classes are those of the folder, so that both splits number them alike.
    assert ([i.id for i in val.images], val.names, val.labels.tolist()) == (["a"], ("cat", "dog"), [0])
    with pytest.raises(DataError, match="has no list 'test', but train, val"):
        read(folder, split="test")


def test_a_folder_without_lists_is_one_split(tmp_path: Path) -> None:
    assert len(read(write_voc(tmp_path / "v", {"b": [DOG], "a": [CAT]}), split="test")) == 2


def test_xml_beside_pictures(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(voc_xml([CAT]))
    data = read(tmp_path, split="val")
    assert (data.images[0].path, data.boxes.tolist()) == (tmp_path / "a.png", [[10, 20, 50, 60]])


@pytest.mark.parametrize("value", ["1", "0", "", "maybe"])
def test_difficult(value: str, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": []})
    xml = voc_xml([CAT], extra=f"<difficult>{value}</difficult>")
    (folder / "Annotations" / "a.xml").write_text(xml)
    data = read(folder, split="val")
    assert data.difficult.tolist() == [value == "1"]
    assert len(data.problems) == (value == "maybe")
    assert len(data.objects(0)[1]) == 1


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (voc_xml([("cat", (5, 5, 5, 9))]), "object 1: bbox has no area: [5, 5, 0, 4]"),
        (voc_xml([("cat", (9, 5, 5, 9))]), "object 1: bbox has no area: [9, 5, -4, 4]"),
        (voc_xml([("cat", (float("nan"), 5, 5, 9))]), "bndbox must be four finite numbers, got nan, 5, 5, 9"),
        (voc_xml([("cat", (float("inf"), 5, 5, 9))]), "bndbox must be four finite numbers, got inf, 5, 5, 9"),
        (voc_xml([("", (1, 5, 5, 9))]), "object 1: needs a name"),
        ("<annotation><object><name>cat</name></object></annotation>", "got nothing, nothing, nothing, nothing"),
    ],
)
def test_a_bad_object_costs_itself(body: str, problem: str, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [], "b": [CAT]})
    good = voc_xml([CAT]).partition("</size>")[2].removesuffix("</annotation>")
    (folder / "Annotations" / "a.xml").write_text(body.replace("</annotation>", good + "</annotation>"))
    data = read(folder, split="val")
    assert data.boxes.tolist() == [[10, 20, 50, 60]] * 2
    assert [(p.file, p.costs) for p in data.problems] == [("a.xml", "box")]
    assert problem in str(data.problems[0])


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><annotation>&a;</annotation>'


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, "<annotation>", "", "<other/>", "\0\0", "<a>" * 100_000])
def test_a_bad_file_costs_its_picture(text: str, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [], "b": [CAT]})
    (folder / "Annotations" / "a.xml").write_text(text)
    data = read(folder, split="val")
    assert [i.id for i in data.images] == ["b"]
    assert [(p.file, p.costs) for p in data.problems] == [("a.xml", "picture")]


def test_lists_name_files_of_the_folder_alone(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CAT]}, val=["a", "a", "../../x", "gone", "a 1"])
    data = read(folder, split="val")
    assert [i.id for i in data.images] == ["a"]
    assert [str(p) for p in data.problems] == [
        "val.txt: ../../x: is not the name of a picture",
        "gone.xml: file: no such file",
    ]


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CAT] * 50, "b": [CAT]})
    monkeypatch.setattr("leyolo.data.voc.MAX_BYTES", 1000)
    data = read(folder, split="val")
    assert [i.id for i in data.images] == ["b"]
    assert "more than 1,000 bytes" in str(data.problems[0])


def test_without_defusedxml_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "defusedxml.ElementTree", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'leyolo\[val\]'"):
        read(write_voc(tmp_path / "v", {"a": [CAT]}), split="val")


def test_real_annotations(shared: Path) -> None:
    found = {split: read(shared / "data" / "bccd", split=split) for split in ("train", "val", "test")}
    assert {split: (len(d), len(d.labels), d.names) for split, d in found.items()} == {
        "train": (205, 2804, ("Platelets", "RBC", "WBC")),
        "val": (87, 1137, ("Platelets", "RBC", "WBC")),
        "test": (72, 945, ("Platelets", "RBC", "WBC")),
    }
    # The two boxes without area that the data is known to have (one in train, one in val).
    assert {s: [str(p) for p in d.problems] for s, d in found.items()} == {
        "train": ["BloodImage_00343.xml: object 4: bbox has no area: [181, 329, 0, 0]"],
        "val": ["BloodImage_00338.xml: object 13: bbox has no area: [504, 337, 0, 0]"],
        "test": [],
    }


def test_the_same_pictures_as_coco_and_as_voc(shared: Path) -> None:
    folder = shared / "data" / "voc100"
    voc = read(folder, split="val")
    coco = read(folder / "instances.json", split="val", images=folder / "JPEGImages", names=voc.names)

    def content(data: object) -> list[object]:
        assert hasattr(data, "images")
        return sorted(
            (image.name, data.boxes[data.rows(at)].tolist(), data.labels[data.rows(at)].tolist())
            for at, image in enumerate(data.images)
        )

    assert content(voc) == content(coco)
    assert voc.difficult.sum() == 38


def test_names_that_differ_in_case_are_said(tmp_path: Path) -> None:
    data = read(write_voc(tmp_path / "v", {"a": [("Cat", CAT[1]), CAT]}), split="val")
    assert (data.names, data.labels.tolist()) == (("Cat", "cat"), [0, 1])
    assert [str(p) for p in data.problems] == ["v: names: 'Cat' and 'cat' are two classes"]
    assert read(tmp_path / "v", split="val", names=("cat",)).duplicate.tolist() == [False, True]


def test_lists_as_windows_writes_them_and_names_with_spaces(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CAT], "my a": [CAT], "b": [CAT]}, val=[])
    (folder / "ImageSets" / "Main" / "val.txt").write_bytes(b"\xef\xbb\xbfa\r\nmy a\r\nb -1\r\n")
    data = read(folder, split="val")
    assert ([i.id for i in data.images], data.problems) == (["a", "my a", "b"], ())

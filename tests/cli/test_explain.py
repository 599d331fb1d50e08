"""``leyolo explain`` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotated import write_voc

Run = Callable[..., Any]
CELL = ("cell", (0.0, 0.0, 120.0, 100.0))
RING = ("ring", (60.0, 40.0, 190.0, 140.0))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "voc", {"a": [CELL, RING], "b": [RING], "c": []}, train=["a"], val=["b", "c"])


def test_table_json_and_picture_say_the_same(run: Run, data: Path, weights_file: Path, tmp_path: Path) -> None:
    picture, out, numbers = data / "JPEGImages" / "a.jpg", tmp_path / "a.png", tmp_path / "a.json"
    done = run(
        *("explain", "assign", picture, "--data", data, "--model", weights_file, "--imgsz=96"),
        *("--object=2", "--out", out, "--json", numbers),
    )
    assert done.code == 0, done.err
    assert "objects: annotations of voc" in done.err
    assert f"predictions: {weights_file.name}, 96 x 96" in done.err
    found = json.loads(numbers.read_text())
    assert (found["input"], found["padding"], found["scale"]) == ([96, 96], [0, 12], pytest.approx(0.48))
    assert [(row["number"], row["class"]) for row in found["objects"]] == [(1, "cell"), (2, "ring")]
    np.testing.assert_allclose(found["objects"][0]["box"], [0, 12, 57.6, 60], rtol=1e-6)
    lines = [line.split() for line in done.out.splitlines()]
    for row, start in zip(found["objects"], (1, 5), strict=True):
        assert lines[start][:2] == [str(row["number"]), row["class"]]
        for line, (name, each) in zip(lines[start : start + 4], row["assigners"].items(), strict=True):
            assert each["anchors"] == len(each["points"]) == sum(each["levels"].values())
            words = line[line.index({"fcos": "FCOS", "simota": "SimOTA", "ota": "OTA", "tal": "TAL"}[name]) + 1 :]
            expected = [*([] if each["asked"] is None else [str(each["asked"])]), str(each["anchors"])]
            assert words[: len(expected)] == expected
            assert words[len(expected)] == "/".join(str(count) for count in each["levels"].values())
    assert set(found["agreement"]) == {"fcos/simota", "fcos/ota", "fcos/tal", "simota/ota", "simota/tal", "ota/tal"}
    assert all(0 <= value <= 1 for value in found["agreement"].values())
    assert "agreement  SimOTA  OTA" in done.out
    rows, asked = found["candidates"], found["objects"][1]["assigners"]["simota"]["asked"]
    assert "SimOTA's cost of 2 ring: the largest IoUs sum to" in done.out
    assert f"so k is {asked}; {len(rows)} candidates" in done.out
    assert lines[-min(len(rows), 12)][-1] == "taken"
    assert rows[0]["taken"]
    drawn = Image.open(out)
    assert drawn.format == "PNG"
    assert min(drawn.size) > 600


def test_what_is_lost_to_another_is_said(run: Run, data: Path, weights_file: Path, tmp_path: Path) -> None:
    """Of two objects with the same box and class the first gets everything."""
    labels = tmp_path / "twice.txt"
    labels.write_text("1 0.5 0.5 0.4 0.4\n1 0.5 0.5 0.4 0.4001\n")
    picture = data / "JPEGImages" / "a.jpg"
    common = (
        "explain",
        "assign",
        picture,
        "--boxes",
        labels,
        "--model",
        weights_file,
        "--imgsz=96",
        "--assigner=simota",
    )
    rows = json.loads(run(*common, "--json=-").out)["objects"]
    asked, got = (sum(row["assigners"]["simota"][key] for row in rows) for key in ("asked", "anchors"))
    assert asked - got >= 1
    said = [run(*common, f"--object={number}").out.count("lost to another") for number in (1, 2)]
    assert sum(said) == asked - got


@pytest.mark.usefixtures("model")
def test_without_annotations_the_models_own_detections(run: Run, picture: Callable[..., Path]) -> None:
    done = run("explain", "assign", picture(), "--model=x", "--imgsz=96", "--assigner=simota,tal", "--json=-")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["objects_from"] == "the model's own detections above 0.25"
    (row,) = found["objects"]
    assert row["class"] == "cell"
    np.testing.assert_allclose(row["box"], [0, 16, 48, 48], atol=0.01)
    assert row["assigners"]["simota"]["points"] == [[16, 16, 32]], "the cell that says so itself"
    assert row["assigners"]["tal"]["points"] == [], "none of the cells' centres is inside"
    nothing = run("explain", "assign", picture(), "--model=x", "--imgsz=96", "--conf=0.99")
    assert nothing.code == 3
    assert "the model detects nothing above confidence 0.99" in nothing.err


def test_a_label_file(run: Run, data: Path, weights_file: Path, tmp_path: Path) -> None:
    picture, labels = data / "JPEGImages" / "a.jpg", tmp_path / "a.txt"
    labels.write_text("2 0.5 0.5 0.4 0.4\n")
    done = run("explain", "assign", picture, "--boxes", labels, f"model={weights_file}", "imgsz=96", "--json=-")
    assert done.code == 0, done.err
    assert [row["class"] for row in json.loads(done.out)["objects"]] == ["ring"]
    labels.write_text("3 0.5 0.5 0.4 0.4\n")
    done = run("explain", "assign", picture, "--boxes", labels, "--model", weights_file, "--imgsz=96")
    assert done.code == 3
    assert "the model has the classes 0..2, got 3" in done.err


def test_summary_over_a_dataset(run: Run, data: Path, weights_file: Path, tmp_path: Path) -> None:
    common = ("explain", "assign", "--data", data, "--model", weights_file, "--imgsz=96", "--assigner=simota,ota")
    done = run(*common, "--summary", "--json", tmp_path / "n.json")
    assert done.code == 0, done.err
    assert "2 pictures, 3 objects, 0 of them below 32 x 32 in the input" in done.err
    found = json.loads((tmp_path / "n.json").read_text())
    rows = {row["assigner"]: row for row in found["assigners"]}
    single = [
        json.loads(run(*common[:2], data / "JPEGImages" / f"{stem}.jpg", *common[2:], "--json=-").out) for stem in "ab"
    ]
    for name, row in rows.items():
        each = [o["assigners"][name] for one in single for o in one["objects"]]
        assert row["asked"] == sum(share["asked"] for share in each)
        assert row["anchors"] == sum(share["anchors"] for share in each)
        assert row["objects_without"] == sum(share["anchors"] == 0 for share in each)
        assert row["objects_with_one"] == sum(share["anchors"] == 1 for share in each)
    assert run(*common, "--summary", "--split=train").err.count("1 pictures, 2 objects") == 1


def test_what_cannot_be_explained(run: Run, data: Path, weights_file: Path, tmp_path: Path) -> None:
    picture = data / "JPEGImages" / "a.jpg"
    usage = (
        ((), "expected a picture"),
        ((picture, "--summary", "--data", data), "--summary takes --data and no IMAGE"),
        ((picture, "--data", data, "--boxes", "x.txt"), "give one of them"),
        ((picture, "--data", data, "--assigner=simta"), "Did you mean 'simota'?"),
        ((picture, "--data", data, "--imgsz=100"), "multiple of 32"),
        ((picture, "--data", data, "--object=3"), "--object must be at most 2"),
        ((picture, "--data", data, "--object=1", "--assigner=tal"), "simota must be among the assigners"),
        ((picture, "--data", data, "--out=no/such/a.png"), "there is no folder"),
    )
    for arguments, message in usage:
        done = run("explain", "assign", *arguments, "--model", weights_file)
        assert (done.code, message in done.err) == (2, True), (arguments, done.err)
    inputs = (
        ((tmp_path / "gone.jpg", "--data", data), "no such file"),
        ((picture, "--data", tmp_path / "gone"), "no such file or folder"),
        ((picture, "--boxes", tmp_path / "gone.txt"), "no such file"),
        ((data / "JPEGImages" / "c.jpg", "--data", data), "there is no object in it"),
        ((data / "Annotations" / "a.xml", "--data", data), "a.xml"),
    )
    for arguments, message in inputs:
        done = run("explain", "assign", *arguments, "--model", weights_file)
        assert (done.code, message in done.err) == (3, True), (arguments, done.err)
    assert run("explain").code == 2
    assert run("explain", "asign").code == 2

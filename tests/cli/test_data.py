"""``leyolo data`` and ``leyolo val`` on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from annotated import write_coco, write_voc
from leyolo.data.augment import Augment

Run = Callable[..., Any]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"
CELL = ("cell", (0, 0, 48, 32))


def test_check_says_what_is_wrong_and_ends_with_4(run: Run, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CELL], "b": [CELL]}, train=["a"], val=["b"])
    good = run("data", "check", "--data", folder)
    assert (good.code, good.out) == (0, "")
    assert "train: 1 pictures, 1 objects" in good.err
    text = (folder / "Annotations" / "b.xml").read_text().replace("48", "nan")
    (folder / "Annotations" / "b.xml").write_text(text)
    bad = run("data", "check", f"data={folder}", "--json", tmp_path / "found.json")
    assert bad.code == 4
    assert "val: b.xml: object 1: bndbox must be four finite numbers, got 0, 0, nan, 32" in bad.err
    assert "boxes that cannot be used: 1, pictures: 0" in bad.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["splits"] == {"train": {"images": 1, "objects": 1}, "val": {"images": 1, "objects": 0}}
    assert [(row["split"], row["file"], row["costs"]) for row in found["problems"]] == [("val", "b.xml", "box")]
    assert run("data", "check", "--data", folder, "--show=0").err.count("b.xml") == 0
    assert run("data", "check", "--data", folder, "--split=train").code == 0
    assert run("data", "check", "--data", tmp_path / "gone").code == 3


def test_numbers_are_written_as_a_whole_or_not_at_all(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CELL]})
    target = tmp_path / "n.json"
    target.write_text("before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert run("data", "stats", "--data", folder, "--json", target).code == 3
    assert target.read_text() == "before"
    assert run("data", "stats", "--data", folder, "--json", target).code == 0
    assert json.loads(target.read_text())["all"]["images"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"v", "n.json"}


def test_stats(run: Run, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CELL], "b": [CELL, CELL]}, train=["a"], val=["b"])
    done = run("data", "stats", "--data", folder)
    assert done.code == 0, done.err
    assert "cell   1      2" in done.out
    assert "note: val: 1 problems" in done.err
    done = run("data", "stats", "--data", folder, "--json=-", "--plot", tmp_path / "plot.png")
    assert json.loads(done.out)["val"]["classes"] == {"cell": {"objects": 2, "images": 1}}
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert run("data", "stats", "--data", folder, "--plot=no/such/plot.png").code == 2


def test_what_the_docs_say_is_what_comes(run: Run, shared: Path) -> None:
    text = DOCS.read_text()
    data = shared / "data" / "bccd"
    for command in ("check", "stats"):
        block = re.search(rf"^\$ leyolo data {command} .*\n((?:.*\n)*?)```", text, re.MULTILINE)
        assert block is not None
        done = run("data", command, "--data", data)
        assert block[1] == done.out + done.err


def test_the_documented_defaults_are_those_of_training() -> None:
    from leyolo.train.settings import make

    values = make({"data": "d"}).to_json()
    rows = re.findall(r"^\|[ \d]*\| (`--[^|]*) \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    said = {}
    for options, defaults in rows:
        names = [name.replace("-", "_") for name in re.findall(r"`--([\w-]+)`", options)]
        said |= dict(zip(names, map(float, defaults.split(",")), strict=True))
    assert said == {name: values[name] for name in said}
    assert set(said) == {field.name for field in fields(Augment)} | {"close_mosaic"}


def test_shapes(run: Run, tmp_path: Path) -> None:
    done = run("data", "shapes", "--out", tmp_path / "s", "--images=4", "--imgsz=64", "--seed=3")
    assert done.code == 0, done.err
    assert "4 pictures; " in done.err
    assert run("data", "check", "--data", tmp_path / "s").code == 0
    assert run("data", "shapes", "--out", tmp_path / "s", "--images=1").code == 2
    assert run("data", "shapes").code == 2
    assert run("data", "draw").code == 2


@pytest.mark.usefixtures("model")
def test_val_reads_every_format_and_says_the_padding(run: Run, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CELL], "b": [CELL]}, val=["a"], test=["b"])
    done = run("val", "--data", folder, "--imgsz=96", "--json", tmp_path / "n.json", "--save-json", tmp_path / "d.json")
    assert done.code == 0, done.err
    assert "Pascal VOC's" in done.out
    assert "1 pictures, " in done.err
    assert "96 x 96, square letterbox" in done.err
    assert "ms a picture: decode " in done.err
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert (numbers["padding"], list(numbers["per_class"])) == ("square", ["cell"])
    rows = json.loads((tmp_path / "d.json").read_text())
    assert {(row["image_id"], row["category_id"]) for row in rows} <= {("a", 1)}
    done = run("val", "--data", folder, "--imgsz=96", "--split=test", "--rect", "--per-class")
    assert "96 x 96, rect letterbox" in done.err
    assert "class  AP" in done.out
    assert run("val", "--data", folder, "--split=train").code == 3
    assert run("val", "--data", folder, "--save-json=no/such/file.json").code == 2


@pytest.mark.usefixtures("model")
def test_val_of_other_classes_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("val", "--data", write_coco(tmp_path), "--imgsz=96")
    assert done.code == 3
    assert "share no class: cell, dot, ring against tvmonitor, person" in done.err


@pytest.mark.usefixtures("model")
def test_where_nothing_can_be_written_is_said_before_the_work(run: Run, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "v", {"a": [CELL]})
    (tmp_path / "file").touch()
    for option, place in (("--plots", "file"), ("--save-json", "v"), ("--json", "v"), ("--save-json", "no/file.json")):
        done = run("val", "--data", folder, "--imgsz=96", option, tmp_path / place)
        assert (done.code, done.out) == (2, ""), (option, done.err)
        assert str(tmp_path / place) in done.err
        assert "pictures, " not in done.err
    assert run("data", "stats", "--data", folder, "--plot", folder).code == 2

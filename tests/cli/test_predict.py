"""``leyolo predict``: sources, outputs, exit codes, and what it says."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo.errors import CheckError

Run = Callable[..., Any]
Picture = Callable[..., Path]
BOX = [0, 0, 48, 32]
pytestmark = pytest.mark.usefixtures("model")


def test_one_picture(run: Run, picture: Picture, tmp_path: Path) -> None:
    done = run("predict", picture(), "--imgsz", 96)
    assert done.code == 0
    assert done.out == ""
    note, first, *rest = done.err.splitlines()
    assert "know drawn shapes only" in note
    assert first.startswith(f"{tmp_path / 'a.png'}: 96x64, 1 cell, ")
    assert rest[0].startswith("1 picture, 1 box in ")
    assert rest[1].startswith("milliseconds a picture: decode ")
    assert rest[2] == f"saved to {Path('runs/detect/predict')}"
    assert Image.open("runs/detect/predict/a.png").size == (96, 64)


def test_run_folders_are_numbered(run: Run, picture: Picture) -> None:
    for _ in range(3):
        assert run("predict", picture(), "imgsz=96").code == 0
    assert sorted(p.name for p in Path("runs/detect").iterdir()) == ["predict", "predict2", "predict3"]
    assert run("predict", picture("b.png"), "imgsz=96", "exist_ok=True").code == 0
    assert sorted(p.name for p in Path("runs/detect/predict").iterdir()) == ["a.png", "b.png"]
    assert run("predict", picture(), "imgsz=96", "--project", "mine", "--name", "first").code == 0
    assert Path("mine/first/a.png").exists()


def test_a_run_that_saves_nothing_leaves_no_folder(run: Run, picture: Picture) -> None:
    assert run("predict", picture(), "--imgsz=96", "--no-save").code == 0
    assert run("predict", picture(), "imgsz=96", "save=False").code == 0
    assert run("predict", "missing.png").code == 3
    assert not Path("runs/detect/predict").exists()


def test_json_lines_on_stdout(run: Run, picture: Picture) -> None:
    picture("x/a.png"), picture("x/b.png")
    done = run("predict", "x", "--imgsz", "96", "--format", "jsonl")
    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["a.png", "b.png"]
    (found,) = lines[0]["detections"]
    assert found["name"] == "cell"
    assert list(found["box"].values()) == BOX
    assert not Path("runs").exists(), "with --format pictures are saved only if asked for"


def test_csv_and_coco_on_stdout(run: Run, picture: Picture) -> None:
    rows = list(csv.DictReader(io.StringIO(run("predict", picture(), "imgsz=96", "format=csv").out)))
    assert [float(rows[0][k]) for k in ("x1", "y1", "x2", "y2")] == BOX
    (row,) = json.loads(run("predict", picture("7.png"), "imgsz=96", "format=coco").out)
    assert (row["image_id"], row["category_id"], row["bbox"]) == (7, 1, [0, 0, 48, 32])


@pytest.mark.parametrize(("name", "first"), [("out.jsonl", "{"), ("out.csv", "path,"), ("out.json", "["), ("out", "{")])
def test_data_to_a_file(run: Run, picture: Picture, name: str, first: str) -> None:
    done = run("predict", picture(), "imgsz=96", "-o", name)
    assert done.code == 0
    assert done.out == ""
    assert Path(name).read_text().startswith(first)


def test_everything_saved_at_once(run: Run, picture: Picture) -> None:
    source = [picture("x/1.png"), picture("y/1.png")]
    flags = ("save_txt=True", "--save_conf", "save-crop=true", "--save-json")
    assert run("predict", *source, "imgsz=96", *flags).code == 0
    folder = Path("runs/detect/predict")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        *("1-2.png", "1.png", "crops/cell/1-0.jpg", "crops/cell/1-2-0.jpg"),
        *("labels/1-2.txt", "labels/1.txt", "predictions.json"),
    ]
    row = [float(v) for v in (folder / "labels" / "1.txt").read_text().split()]
    np.testing.assert_allclose(row, [0, 24 / 96, 16 / 64, 48 / 96, 32 / 64, 1 / (1 + np.exp(-3))], rtol=1e-5)
    assert len(json.loads((folder / "predictions.json").read_text())) == 2


def test_filters_arrive(run: Run, picture: Picture) -> None:
    path = picture()
    for flags in (
        ["--conf", "0.99"],
        ["classes=dot"],
        ["--classes", "1,2"],
        ["classes=[1, 2]"],
        ["max_det=1", "conf=1"],
    ):
        done = run("predict", path, "imgsz=96", "--format=jsonl", *flags)
        assert json.loads(done.out)["detections"] == [], flags
    assert json.loads(run("predict", path, "imgsz=96", "--format=jsonl", "classes=[0]").out)["detections"]
    assert json.loads(run("predict", path, "imgsz=64,96", "--rect", "format=jsonl").out)["detections"]


def test_bfloat16_falls_back_with_a_line(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, lines in ((True, 0), (False, 1)):
        monkeypatch.setattr("leyolo._C.cpu_features", lambda has_it=has_it: {"bf16_dot": has_it})
        done = run("predict", f"source={picture()}", "imgsz=96", "dtype=bf16", "save=false")
        assert done.code == 0, done.err
        assert done.err.count("warning: bfloat16 needs a CPU with AVX512-BF16") == lines


def test_failures_are_lines_and_the_rest_goes_on(run: Run, picture: Picture, tmp_path: Path) -> None:
    picture("x/a.png"), picture("x/c.png")
    (tmp_path / "x" / "b.jpg").write_bytes(b"\xff\xd8 nothing")
    (tmp_path / "x" / "d.png").write_bytes(b"")
    done = run("predict", "x", "imgsz=96", "format=jsonl", "-q")
    assert done.code == 3
    assert [Path(json.loads(line)["path"]).name for line in done.out.splitlines()] == ["a.png", "c.png"]
    errors = done.err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"error: {Path('x/b.jpg')}: ")
    assert errors[1] == f"error: {Path('x/d.png')}: is empty (0 bytes)"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file names beyond UTF-8")
def test_a_file_name_that_is_not_utf8(run: Run, picture: Picture, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    picture().rename(tmp_path / name)
    for flags in (["-o", "out.jsonl"], ["-o", "out.csv"], ["-o", "out.json", "save_txt=True", "save=True"]):
        assert run("predict", tmp_path / name, "imgsz=96", *flags).code == 0
    (line,) = Path("out.jsonl").read_text().splitlines()
    assert Path(json.loads(line)["path"]).name == name


def test_a_very_wide_picture(run: Run) -> None:
    Image.new("RGB", (20000, 3)).save("wide.png")
    done = run("predict", "wide.png", "imgsz=96", "rect=True", "format=jsonl", "save=True")
    assert done.code == 0
    assert json.loads(done.out)["width"] == 20000


def test_recursive_and_list(run: Run, picture: Picture) -> None:
    picture("x/deep/a.png")
    done = run("predict", "x", "imgsz=96", "format=jsonl")
    assert done.code == 3
    assert "--recursive looks into the folders below" in done.err
    assert run("predict", "x", "-r", "imgsz=96", "format=jsonl").out.count("\n") == 1
    Path("names.lst").write_text("x/deep/a.png\n")
    assert run("predict", "names.lst", "--list", "imgsz=96", "format=jsonl").out.count("\n") == 1


def test_video_without_pyav_is_exit_5(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("film.mp4").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "av", None)
    done = run("predict", "film.mp4")
    assert done.code == 5
    assert "pip install 'leyolo[video]'" in done.err
    assert run("predict", "film.mp4", "missing.png").code == 3


def test_quiet_and_not_verbose(run: Run, picture: Picture) -> None:
    assert run("predict", picture(), "imgsz=96", "-q", "--no-save").err == ""
    lines = run("predict", picture(), "imgsz=96", "verbose=False", "--no-save").err.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("1 picture")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cnof", "0.3"], "'--cnof' is not an option of 'leyolo predict'. Did you mean '--conf'?"),
        (["--save_tx"], "Did you mean '--save-txt'?"),
        (["max_dets=3"], "'max_dets=3' is neither an option nor a file. Did you mean 'max_det=…'?"),
        (["zzzz=3"], "'zzzz=3' is neither an option nor a file.\n       See: leyolo predict --help"),
        (["conf=high"], "--conf got 'high': "),
        (["conf=1.5"], "conf must be within 0..1, got 1.5"),
        (["--batch", "0"], "batch must be a whole number of at least 1, got 0"),
        (["imgsz=650"], "imgsz must be a multiple of 32, got 650. The nearest: 640 or 672"),
        (["imgsz=large"], "--imgsz must be a side or height,width, for example 640 or 480,640; got 'large'"),
        (["classes=cel"], "the model has no class 'cel'. Did you mean 'cell'?"),
        (["classes=9"], "the model has the classes 0..2, got 9"),
        (["--format", "jsn"], "--format must be one of jsonl, csv, coco, got 'jsn'. Did you mean 'jsonl'?"),
        (["save=perhaps"], "'perhaps' is not a value for --save: expected True or False"),
        (["--vid-stride", "0"], "vid_stride must be a whole number of at least 1, got 0"),
        (["line_width=0"], "--line-width must be at least 1, got 0"),
        (["device=gpu"], "device must be cpu, cuda or cuda:N, got 'gpu'."),
        (["dtype=float16"], "dtype float16 needs device='cuda'"),
        (["dtype=int4"], "dtype must be one of float32, float16, bfloat16, tf32, got 'int4'."),
        (["--conf"], "--conf needs a value.\n       See: leyolo predict --help"),
        (["-o"], "-o needs a value.\n       See: leyolo predict --help"),
        (["--no-rect=perhaps"], "'perhaps' is not a value for --no-rect: expected True or False"),
        (["--classes=²"], "the model has no class '²'"),
        (["--classes=--1"], "the model has no class '--1'"),
        (["--classes=-1"], "the model has the classes 0..2, got -1"),
        (["--imgsz=8224"], "imgsz must be at most 8192, got 8224"),
        (["--max-det=100001"], "max_det must be at most 100000, got 100001"),
        (["--batch=4097"], "batch must be at most 4096, got 4097"),
    ],
)
def test_wrong_flags_and_values(run: Run, picture: Picture, arguments: list[str], message: str) -> None:
    done = run("predict", picture(), *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) <= 2
    assert not Path("runs").exists()


def test_no_source(run: Run) -> None:
    done = run("predict", "--model", "leyolo-n")
    assert done.code == 2
    assert "no source given" in done.err
    assert "For example: leyolo predict picture.jpg" in done.err


def test_name_value_forms_are_the_same(run: Run, picture: Picture) -> None:
    path = picture()

    def boxes(*arguments: object) -> Any:
        return json.loads(run("predict", *arguments).out)["detections"]

    expected = boxes(path, "--imgsz", "96", "--format", "jsonl")
    assert expected
    assert boxes(f"source={path}", "imgsz=96", "format=jsonl", "classes=None", "model=any.pt") == expected
    assert boxes("--imgsz=96", "--format=jsonl", "--agnostic_nms", "False", path) == expected
    assert boxes("-m", "any.pt", "--imgsz", "96", "--format", "jsonl", "--no-rect", "--", path) == expected


def test_a_file_with_an_equals_sign(run: Run, picture: Picture) -> None:
    picture("frame=3.png")
    done = run("predict", "frame=3.png", "imgsz=96", "format=jsonl")
    assert done.code == 0
    assert json.loads(done.out)["path"] == "frame=3.png"


def test_unforeseen_errors_are_lines_and_debug_shows_the_traceback(
    run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("leyolo.predict.backends.load_weights", broken)
    done = run("predict", picture())
    assert done.code == 1
    assert done.err.startswith("error: RuntimeError: unforeseen\n")
    assert "--debug" in done.err
    with pytest.raises(RuntimeError, match="unforeseen"):
        run("predict", picture(), "--debug")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckError("x"), 4),
        (FileNotFoundError(2, "No such file or directory", "w.pt"), 3),
        (ValueError("bad"), 3),
        (ImportError("no"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("leyolo.predict.backends.load_weights", fail)
    done = run("predict", picture())
    assert done.code == code
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1


def test_an_interrupted_run_keeps_what_it_has(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [picture(f"{n}.png") for n in range(3)]
    from leyolo.cli.commands.predict import Report

    def interrupt(self: Report, result: Any) -> None:
        if result.path.endswith("1.png"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Report, "done", interrupt)
    done = run("predict", *paths, "imgsz=96", "-o", "out.jsonl")
    assert done.code == 130
    assert done.err.splitlines()[-1] == "interrupted"
    assert len(Path("out.jsonl").read_text().splitlines()) == 2


def test_a_picture_whose_results_cannot_be_written(run: Run, picture: Picture) -> None:
    picture("x/a.png"), picture("x/b.png")
    Path("runs/detect/predict/labels/a.txt").mkdir(parents=True)  # in the way of the first
    done = run("predict", "x", "imgsz=96", "save_txt=True", "exist_ok=True")
    assert done.code == 3
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {Path('x/a.png')}: its results cannot be written (")
    assert Path("runs/detect/predict/labels/b.txt").is_file()
    assert Path("runs/detect/predict/a.png").is_file()


@pytest.mark.parametrize("arguments", [[""], ["a.png", ""], ["source="]])
def test_an_empty_source(run: Run, picture: Picture, arguments: list[str]) -> None:
    picture("a.png")
    done = run("predict", *arguments)
    assert done.code == 2
    assert "no source given" in done.err
    assert not Path("runs").exists()


def test_a_run_that_fails_early_leaves_no_folder(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(*_: object, **options: object) -> Any:
        raise CheckError("no engine")

    def no_run(*_: object) -> Any:
        raise CheckError("no run")
        yield

    with monkeypatch.context() as patch:
        patch.setattr("leyolo.predict.backends.engine", no_engine)
        assert run("predict", picture(), "imgsz=96").code == 4
        assert not Path("runs").exists()
    (Path("file")).write_text("x")
    assert run("predict", picture(), "imgsz=96", "--save", "-o", "file/out.jsonl").code == 3
    assert not Path("runs").exists()
    monkeypatch.setattr("leyolo.predict.run.run", no_run)
    assert run("predict", picture(), "imgsz=96").code == 4
    assert not list(Path("runs/detect").iterdir())


@pytest.mark.parametrize(
    ("flags", "on"),
    [
        (["--rect", "--no-rect"], False),
        (["--no-rect", "--rect"], True),
        (["--rect", "rect=False"], False),
        (["rect=0", "--rect=yes"], True),
        (["--rect", "no_rect=True"], False),
        (["--rect", "--no-rect", "false"], True),
    ],
)
def test_of_a_flag_and_its_opposite_the_last_wins(run: Run, picture: Picture, flags: list[str], on: bool) -> None:
    seen: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        from leyolo.model import LeYOLO

        settings = LeYOLO.settings
        patch.setattr(LeYOLO, "settings", lambda self, **o: (seen.append(o["rect"]), settings(self, **o))[1])
        assert run("predict", picture(), "imgsz=96", "--no-save", *flags).code == 0
    assert seen == [on]


def test_a_short_flag_and_its_opposite(run: Run, picture: Picture) -> None:
    picture("x/deep/a.png")
    assert run("predict", "x", "imgsz=96", "-r", "--no-save").code == 0
    assert run("predict", "x", "imgsz=96", "-r", "--no-recursive", "--no-save").code == 3


def test_save_conf_saves_text(run: Run, picture: Picture) -> None:
    assert run("predict", picture(), "imgsz=96", "--save-conf").code == 0
    assert len(Path("runs/detect/predict/labels/a.txt").read_text().split()) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_control_characters_in_file_names_are_not_sent_to_the_terminal(run: Run, picture: Picture) -> None:
    picture("x/a\n\x1b[31mb\r\x9b.png")
    (Path("x") / "c\x07\n.png").write_bytes(b"")
    done = run("predict", "x", "imgsz=96", "--no-save")
    assert done.code == 3
    assert r"a\n\x1b[31mb\r\x9b.png: 96x64" in done.err
    assert not any(c in done.err for c in "\x1b\r\x07\x9b")
    assert len(done.err.splitlines()) == 5
    assert run("predict", "no\x1b=1", "-m", "n").err.startswith(r"error: no\x1b=1: no such file")

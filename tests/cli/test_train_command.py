"""``leyolo train``: what it passes on, and what it says where something is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo.cli.commands.train import _OPTIONS
from leyolo.data.augment import Augment
from leyolo.train.settings import DEFAULT_LR, Settings

Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures with a box each."""
    for number in range(2):
        pixels = np.full((64, 64, 3), 90, np.uint8)
        pixels[10:40, 20:50] = 200
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(2)]
    boxes = [{"id": n + 1, "image_id": n, "category_id": 1, "bbox": [20, 10, 30, 30]} for n in range(2)]
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "box"}]}))
    return path


pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_setting_has_an_option_with_its_default() -> None:
    fields = {f.name: f.default for f in dataclasses.fields(Settings) if f.name != "augment"}
    fields |= {f.name: f.default for f in dataclasses.fields(Augment)}
    assert {name for name, *_ in _OPTIONS} == set(fields)
    for name, kind, _, text in _OPTIONS:
        default = fields[name]
        if default is dataclasses.MISSING or default is None or name == "exist_ok":
            continue
        assert text == (("on" if default else "off") if kind is bool else str(default).removesuffix(".0")) or (
            kind is float and float(text) == default
        ), name
    texts = {name: text for name, _, _, text in _OPTIONS}
    assert texts["lr"] == ", ".join(f"{value:g} {name}" for name, value in DEFAULT_LR.items())


def test_trains_and_goes_on(run: Run, data: Path, weights_file: Path, tmp_path: Path) -> None:
    common = ["--project", tmp_path / "runs", "name=a"]
    settings = ["epochs=1", "imgsz=64", "batch=2", "seed=3", "--no-plots", "--no-fused-ops", "ema=0"]
    done = run("train", f"data={data}", "--weights", weights_file, *settings, *common)
    assert (done.code, done.out) == (0, "")
    assert "leyolo-n, leyolo head, tal, 1 classes; 2 pictures to learn from, no validation; 1 steps" in done.err
    assert "epoch 1/1  box" in done.err
    arguments = (tmp_path / "runs/a/args.yaml").read_text()
    assert all(line in arguments for line in ("seed: 3\n", "fused_ops: false\n", "ema: 0.0\n", "plots: false\n"))
    again = run("train", f"data={data}", "model=leyolo-n", *settings, *common)
    assert again.code == 2
    assert "exists; pass --exist-ok to write into it, --resume to go on" in again.err
    command = ["train", f"data={data}", "--weights", weights_file, *settings, *common, "--resume"]
    assert run(*command, "lr=0.5").code == 2
    more = run(*command, "epochs=2")
    assert more.code == 0
    assert "epoch 2/2" in more.err
    assert "epoch 1/" not in more.err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["data=d"], 2, "give either --weights FILE to fine-tune, or --model leyolo-n"),
        (["data=d", "model=n", "weights=w"], 2, "give either --weights FILE"),
        (["model=n"], 2, "--data is missing"),
        (["data=nothing", "model=n"], 3, "nothing: no such file or folder"),
        (["data=d", "model=leyolo-x"], 2, "no model is called 'leyolo-x'"),
        (["data=d", "model=n", "assigner=tall"], 2, "assigner must be one of tal, simota, ota"),
        (["data=d", "model=n", "head=yolox", "assigner=tal"], 2, "with the yolox head, got 'tal'"),
        (["data=d", "model=n", "epochs=0"], 2, "epochs must be a whole number of at least 1"),
        (["data=d", "model=n", "epoch=3"], 2, "Did you mean 'epochs"),
        (["--resume", "name=nothing"], 3, "there is no run to resume here"),
    ],
)
def test_mistakes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", *arguments)
    assert text in done.err
    assert done.code == code
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())

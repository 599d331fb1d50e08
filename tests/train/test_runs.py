"""Whole runs, short ones: they learn, stop, fail and go on as they should."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from annotated import write_yolo
from leyolo import LeYOLO, weights
from leyolo.errors import InputError, UsageError
from leyolo.train import TrainResult, loop, resume, train
from leyolo.train import run as run_module
from leyolo.train.loop import DivergedError
from leyolo.train.losses import Losses
from leyolo.train.settings import make

Run = Callable[..., TrainResult]
TIMES = ("seconds", "images_per_s", "memory_mb")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("head", "assigner", "epochs", "options", "bound"),
    [
        ("leyolo", "tal", 18, {"lr": 0.01}, 0.95),
        ("leyolo", "simota", 40, {"lr": 0.01}, 0.95),
        ("leyolo", "ota", 28, {"lr": 0.01}, 0.95),
        ("yolox", "simota", 45, {"lr": 0.005, "batch": 2, "close_mosaic": 1.0}, 0.95),
        ("yolox", "ota", 60, {"lr": 0.004, "close_mosaic": 1.0}, 0.9),  # of eight seeds 0.92 to 1
    ],
)
def test_eight_pictures_are_learnt_by_heart(
    run: Run, pictures: Path, head: str, assigner: str, epochs: int, options: dict[str, Any], bound: float
) -> None:
    result = run(head=head, assigner=assigner, epochs=epochs, val_data=str(pictures), val=epochs, **options)
    assert result.rows[-1]["val/map50"] >= bound
    assert result.rows[-1]["val/map"] == pytest.approx(result.map)


def test_what_a_run_writes(run: Run, pictures: Path, tmp_path: Path) -> None:
    result = run(epochs=2, val_data=str(pictures))
    assert {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()} == {
        "args.yaml", "results.csv", "weights/best.safetensors", "weights/last.safetensors", "weights/state.safetensors",
    }  # fmt: skip
    rows = _rows(result.folder / "results.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train/box", "train/cls", "train/dfl", "val/map", "val/map50", "lr", *TIMES} < set(rows[0])
    last = weights.load(result.last)
    assert list(last.names.values()) == ["red", "green", "blue"]
    assert LeYOLO(result.best).val(pictures, imgsz=128).map == pytest.approx(result.map, abs=1e-9)


def test_pictures_of_a_run(run: Run, pictures: Path) -> None:
    """Every one is drawn, and opens; the batch shows what is learnt."""
    result = run(epochs=2, val_data=str(pictures), plots=True)
    sizes = {path.name: Image.open(path).size for path in result.folder.iterdir() if path.suffix in {".png", ".jpg"}}
    assert set(sizes) == {
        "labels.png", "batch.jpg", "results.png", "predictions.jpg", "precision_recall.png", "confusion.png",
    }  # fmt: skip
    assert sizes["batch.jpg"] == (640, 640)  # four pictures of a batch
    assert min(min(size) for size in sizes.values()) >= 300


def test_resumed_is_uninterrupted_to_the_bit(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of an epoch, with everything random on."""
    options = {
        "epochs": 3, "batch": 3, "val_data": str(pictures), "mosaic": 0.5, "fliplr": 0.5, "scale": 0.3, "mixup": 0.2,
        "save_steps": 1, "multi_scale": 0.3,
    }  # fmt: skip
    whole = run(name="whole", **options)
    step = loop.step

    def interrupted(job: loop.Job, epoch: int) -> None:
        if job.progress.steps == 5:  # the last of the second epoch's three
            raise KeyboardInterrupt
        step(job, epoch)

    monkeypatch.setattr(loop, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(name="parts", **options)
    monkeypatch.setattr(loop, "step", step)
    folder = whole.folder.parent / "parts"
    torch.rand(7)  # what happens in between must not matter
    parts = resume(folder, {}, quiet=True)
    assert parts.last.read_bytes() == whole.last.read_bytes()
    one, two = (_rows(r.folder / "results.csv") for r in (whole, parts))
    assert [{k: v for k, v in row.items() if k not in TIMES} for row in one] == [
        {k: v for k, v in row.items() if k not in TIMES} for row in two
    ]


def test_a_finished_run_can_be_extended(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another working directory too."""
    monkeypatch.chdir(pictures.parent)
    result = run(data=pictures.name, epochs=1)
    monkeypatch.chdir(result.folder)
    with pytest.raises(UsageError, match="pass an epochs larger than 1"):
        resume(result.folder, {}, quiet=True)
    for name, value in (("lr", 0.1), ("mosaic", 0.3), ("batch", 2), ("project", "elsewhere")):
        with pytest.raises(UsageError, match=f"{name} cannot change when a run is resumed: it is .*, got {value!r}"):
            resume(result.folder, {"epochs": 2, name: value}, quiet=True)
    with pytest.raises(UsageError, match="training has no setting 'epoch'"):
        resume(result.folder, {"epoch": 2}, quiet=True)
    same = {"epochs": 2, "batch": 4, "mosaic": 0.0, "assigner": "tal"}  # what it has may be said again
    assert [row["epoch"] for row in resume(result.folder, same, quiet=True).rows] == [1, 2]


def test_another_run_is_not_resumed(
    run: Run, draw: Callable[[Path, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other pictures or processes would change steps and places; a new run forgets the state that it found."""
    data = draw(tmp_path / "data", 4)
    folder = run(data=str(data), epochs=1).folder
    draw(tmp_path / "data", 5)
    with pytest.raises(InputError, match="learns from 4 pictures, but now there are 5"):
        resume(folder, {"epochs": 2}, quiet=True)
    draw(tmp_path / "data", 4)
    with pytest.raises(UsageError, match="the run has 1 processes, got 2"):
        run_module._check_same(folder, {"world": 1, "pictures": 4}, 2, 4)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(data=str(data), epochs=1, exist_ok=True)
    with pytest.raises(InputError, match="there is no run to resume"):
        resume(folder, {"epochs": 2}, quiet=True)


def test_a_gradient_that_is_no_number_stops_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The saved epoch stays as it was."""
    good = run(epochs=1)
    before = {path: path.read_bytes() for path in good.folder.rglob("*.safetensors")}
    loss = loop.loss

    def spoilt(*arguments: Any, **options: Any) -> Losses:
        losses = loss(*arguments, **options)
        return losses._replace(total=losses.total * math.nan)

    monkeypatch.setattr(loop, "loss", spoilt)
    with pytest.raises(DivergedError, match=r"gradient became nan in epoch 2, step 3.*\n.*Lower --lr"):
        resume(good.folder, {"epochs": 2}, quiet=True)
    assert {path: path.read_bytes() for path in good.folder.rglob("*.safetensors")} == before


def test_no_batch_is_lost_to_accumulation(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of three, three and two pictures, two to a step: the third is stepped by itself, and at full
    weight."""
    seen: list[int] = []
    scales: list[float] = []
    forward, step = loop.forward, loop.step

    def counted(job: loop.Job, batch: Any, epoch: int) -> Losses:
        seen.append(len(batch.images))
        losses = forward(job, batch, epoch)
        losses.total.register_hook(lambda gradient: scales.append(float(gradient)))
        return losses

    monkeypatch.setattr(loop, "forward", counted)
    stepped: list[int] = []
    monkeypatch.setattr(loop, "step", lambda job, epoch: (stepped.append(len(seen)), step(job, epoch)))
    run(epochs=2, batch=3, accumulate=2)
    assert seen == [3, 3, 2] * 2
    assert stepped == [2, 3, 5, 6]
    assert scales == [0.5, 0.5, 1.0] * 2


def test_patience(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "validate", lambda *_: {"map": 0.25, "map50": 0.5, "map75": 0.1})
    result = run(epochs=9, val_data=str(pictures), patience=2)
    assert [row["epoch"] for row in result.rows] == [1, 2, 3]
    assert result.best_epoch == 1
    assert result.best.read_bytes() != result.last.read_bytes()


def test_a_validation_list_without_objects(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mAP is no number; there are best weights all the same, and the run can go on."""
    monkeypatch.setattr(loop, "validate", lambda *_: dict.fromkeys(("map", "map50", "map75"), math.nan))
    result = run(epochs=1, val_data=str(pictures))
    assert result.best.read_bytes() == result.last.read_bytes()
    assert (result.best_epoch, result.map) == (1, 0.0)
    assert len(resume(result.folder, {"epochs": 2}, quiet=True).rows) == 2


def test_patience_waits_for_validations(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validated after epochs 3, 6, 9: patience of two ends at the sixth. There is always a best."""
    monkeypatch.setattr(loop, "validate", lambda *_: {"map": 0.25, "map50": 0.5, "map75": 0.1})
    seen: list[set[bytes]] = []
    finish = loop.finish

    def watched(job: loop.Job, row: dict[str, float]) -> None:
        finish(job, row)
        seen.append({(job.weights / f"{name}.safetensors").read_bytes() for name in ("best", "last")})

    monkeypatch.setattr(loop, "finish", watched)
    result = run(epochs=9, val_data=str(pictures), patience=2, val=3, imgsz=64)
    assert (len(result.rows), result.best_epoch) == (6, 3)
    assert [len(files) for files in seen] == [1, 1, 1, 2, 2, 2]


def test_data_without_lists_is_not_validated_on(run: Run, tmp_path: Path) -> None:
    """A folder that is one list would be found again; a list that is named has to be there."""
    for kind in ("images", "labels"):
        (tmp_path / "yolo" / kind).mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(tmp_path / "yolo" / "images" / f"{number}.png")
        (tmp_path / "yolo" / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    result = run(data=str(tmp_path / "yolo"), epochs=1, imgsz=64)
    assert result.best_epoch == 0
    assert "val/map" not in result.rows[0]
    description = tmp_path / "data.yaml"
    description.write_text(f"path: {tmp_path}/yolo\ntrain: images\nval: pictures\nnames: [a]\n")
    with pytest.raises(InputError, match="pictures"):
        run(data=str(description), epochs=1, name="named")


def test_pictures_elsewhere_are_not_validated_on_by_mistake(tmp_path: Path) -> None:
    """With --images alone: the same folder may not stand for both lists."""
    line = "0 0.5 0.5 0.5 0.5"
    data = write_yolo(tmp_path / "y", {"train": {"a": line}, "val": {"b": line}})
    pictures = data / "images"

    def found(**options: Any) -> list[str | None]:
        places = {name: str(path) for name, path in {"data": data, **options}.items()}
        both = run_module._datasets(make(places), None)
        return ["".join(str(image.id) for image in each.images) if each else None for each in both]

    assert found() == ["a", "b"]
    assert found(images=pictures) == ["a", "b"]
    assert found(images=pictures / "train") == ["a", "b"]
    assert found(images=pictures / "train", val_images=pictures / "val") == ["a", "b"]
    one = write_yolo(tmp_path / "z", {"": {"c": line}})
    assert found(data=one, images=one / "images") == ["c", None]
    assert found(data=one, val_data=one, images=one / "images") == ["c", "c"], "asked for"
    (tmp_path / "data.yaml").write_text("train: y/images/train\nval: y/images/val\nnames: [a]\n")
    for options in ({"data": tmp_path / "data.yaml"}, {"data": one, "val_data": data}):
        with pytest.raises(UsageError, match=r"would be the same\nSay with --val-images"):
            found(images=pictures / "train", **options)
        assert found(images=pictures / "train", val_images=pictures / "val", **options) == ["a", "b"]
    # What is asked for by its name may have the same pictures.
    assert found(images=pictures / "train", val_images=pictures / "train") == ["a", "a"]
    (tmp_path / "list.txt").write_text("a.jpg\n")
    again = {"val_data": tmp_path / "list.txt", "images": pictures / "train"}
    assert found(**again) == ["a", "a"]
    with pytest.raises(UsageError, match=r"list.txt is not split: say with --val-data"):
        found(data=tmp_path / "list.txt", images=pictures / "train", val_images=pictures / "val")


def test_dirty_annotations_are_said(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {"a": "0 0.5 0.5 0.5 0.5\n0 nan 0.5 0.5 0.5", "b": ""}
    data = write_yolo(tmp_path / "y", {"train": lines, "val": lines})
    train(make({"data": str(data), "project": str(tmp_path), "epochs": 1, "imgsz": 64, "plots": False}), "n")
    said = capsys.readouterr().err
    for name in ("train", "val"):
        assert f"note: {name}: 1 problems; leyolo data check names them\n" in said


def test_without_validation_the_last_weights_are_the_best(run: Run) -> None:
    result = run(epochs=2)
    assert result.best_epoch == 0
    assert result.best.read_bytes() == result.last.read_bytes()
    assert "val/map" not in result.rows[0]


def test_folders(run: Run, tmp_path: Path) -> None:
    """A run never writes into another's folder unasked, and clears what a killed one left."""
    first = run(epochs=1, name=None)
    assert first.folder.name == "train"
    assert run(epochs=1, name=None).folder.name == "train-2"
    with pytest.raises(UsageError, match="exists; pass --exist-ok"):
        run(epochs=1, name="train")
    stale = first.folder / "weights" / ".state.safetensors.1.ab.tmp"
    stale.write_bytes(b"half")
    run(epochs=1, name="train", exist_ok=True)
    assert not stale.exists()
    with pytest.raises(InputError, match="there is no run to resume"):
        resume(tmp_path / "nothing", {})


def test_runs_that_start_together_have_folders_of_their_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second does all that it does while the first reads its pictures."""
    read, others = run_module._datasets, []

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(run_module, "_datasets", read)
        others.append(run(epochs=1, name=None).folder)
        return read(*arguments)

    monkeypatch.setattr(run_module, "_datasets", slow)
    assert run(epochs=1, name=None).folder not in others


def test_who_makes_the_folder_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only looks whether it is there may look too early."""
    settings = make({"data": "d", "project": str(tmp_path / "runs")})
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert [run_module._claim(settings) for _ in range(3)] == ["train", "train-2", "train-3"]
    with pytest.raises(UsageError, match="train exists; pass --exist-ok"):
        run_module._claim(settings.changed(name="train"))
    assert run_module._claim(settings.changed(name="train", exist_ok=True)) == "train"
    (tmp_path / "file").touch()
    for changes, message in (({"project": str(tmp_path / "file")}, "cannot be made"), ({}, "it is no folder")):
        taken = settings.changed(**{"project": str(tmp_path), "name": "file", "exist_ok": True, **changes})
        with pytest.raises(UsageError, match=message):
            run_module._claim(taken)


def test_a_project_that_is_a_link_to_nowhere_is_said(tmp_path: Path) -> None:
    """No numbered name helps there."""
    (tmp_path / "runs").symlink_to(tmp_path / "gone" / "disk")
    with pytest.raises(UsageError, match=r"runs: cannot be made"):
        run_module._claim(make({"data": "d", "project": str(tmp_path / "runs")}))


def test_a_run_that_cannot_start_leaves_no_folder(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        run(data=str(tmp_path / "gone"), name=None)
    assert list(tmp_path.iterdir()) == []


def test_plain_and_fused_operators_start_alike(run: Run) -> None:
    """The first step's losses agree within float32 rounding; later ones drift apart as any rounding does."""
    rows = [run(name=str(on), epochs=1, batch=8, fused_ops=on).rows[0] for on in (True, False)]
    for name in ("train/box", "train/cls", "train/dfl"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-4)


def test_bf16_sgd_and_frozen_layers(run: Run, tmp_path: Path) -> None:
    start = weights.load(run(epochs=1, name="start").last)
    result = run(start, name="more", epochs=1, amp="bf16", optimizer="sgd", freeze=20, accumulate=2, ema=0.0, imgsz=96)
    after = weights.load(result.last)
    same = {n for n, v in start.state.items() if np.array_equal(v, after.state[n])}
    assert {n for n in start.state if n.startswith("layers.") and int(n.split(".")[1]) < 20} <= same
    assert not any(n.startswith("layers.25.") and n.endswith("weight") for n in same)
    assert all(math.isfinite(v) for v in result.rows[0].values())


def test_the_python_class(pictures: Path, tmp_path: Path) -> None:
    """LeYOLO.train takes the best weights over, with the classes of the data."""
    from leyolo.models.network import build
    from leyolo.models.transfer import from_torch

    weights.save(tmp_path / "start.safetensors", from_torch(build("n", 5)))
    model = LeYOLO(tmp_path / "start.safetensors")
    result = model.train(pictures, epochs=1, imgsz=64, batch=4, quiet=True, project=str(tmp_path), val=0, plots=False)
    assert result.folder == tmp_path / "train"
    assert model.names == {0: "red", 1: "green", 2: "blue"}
    assert model.logits(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 84, 64 + 3)
    with pytest.raises(UsageError, match="training has no setting 'lrate'"):
        model.train(pictures, epochs=1, lrate=1)


def test_one_picture_in_a_batch_of_one(run: Run, draw: Callable[[Path, int], Path], tmp_path: Path) -> None:
    result = run(data=str(draw(tmp_path / "one", 1)), epochs=1, batch=1, imgsz=64)
    assert len(result.rows) == 1
    assert isinstance(result.rows[0]["train/box"], float)

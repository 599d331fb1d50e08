"""The commands around predict, and the top level."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leyolo
from leyolo import _C, weights
from leyolo.cli import checks

Run = Callable[..., Any]
Picture = Callable[..., Path]


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out) == (0, f"{leyolo.__version__}\n")


def test_unknown_command(run: Run) -> None:
    done = run("prdict", "a.jpg")
    assert done.code == 2
    assert done.err.startswith("error: there is no command 'prdict'. Did you mean 'predict'?\n")


def test_unknown_global_option(run: Run) -> None:
    done = run("--verson")
    assert done.code == 2
    assert "--verson" in done.err


def test_models(run: Run) -> None:
    rows = {r["name"]: r for r in json.loads(run("models", "--json").out)}
    assert list(rows) == ["leyolo-n", "leyolo-s", "leyolo-m", "leyolo-l"]
    # The published counts include the 16 constants of the distribution, which are no parameters here.
    assert [r["parameters"] + 16 for r in rows.values()] == [1_120_480, 1_917_440, 2_402_744, 2_402_744]
    assert [r["macs"] for r in rows.values()] == [1_231_910_400, 2_130_188_800, 2_754_438_400, 2_754_438_400]
    table = run("models").out
    assert "leyolo-n" in table
    assert "1,120,464" in table
    assert "inside the package: leyolo-n-shapes" in table


def test_info_on_this_machine(run: Run) -> None:
    data = json.loads(run("info", "--json").out)
    assert data["leyolo"] == leyolo.__version__
    assert data["cpu_features"] == _C.cpu_features()
    assert data["build"]["compiler"]
    assert data["packages"]["numpy"] == np.__version__
    text = run("info").out
    assert "cpu features" in text
    assert data["cpu_features"]["isa"] in text


def test_info_on_a_model(run: Run, weights_file: Path) -> None:
    data = json.loads(run("info", weights_file, "--json").out)
    assert data["names"] == ["cell", "dot", "ring"]
    assert data["parameters"] == sum(
        v.size for k, v in weights.load(weights_file).state.items() if ".running_" not in k
    )
    assert data["macs"] == sum(layer["macs"] for layer in data["layers"])
    assert json.loads(run("info", "leyolo-s", "--json", "imgsz=320").out)["macs"] == 532_547_200
    text = run("info", weights_file).out
    assert "parameters" in text
    assert "bottleneck" in text
    assert run("info", "leyolo-s", "imgsz=100").code == 2


def test_info_on_a_plan(run: Run, weights_file: Path) -> None:
    data = json.loads(run("info", weights_file, "--plan", "--json", "--threads", "1", "imgsz=64").out)
    assert (data["threads"], data["imgsz"]) == (1, 64)
    assert {"name", "kernel", "tile", "bytes_in", "flops", "floor_us", "time_us"} <= set(data["steps"][0])
    text = run("info", "leyolo-n", "--plan", "imgsz=64").out  # without weights
    assert "L3.depthwise" in text
    assert "whole pass" in text
    assert run("info", "--plan").code == 2
    assert run("info", weights_file, "--threads", "2").code == 2
    assert run("info", weights_file, "--plan", "imgsz=100").code == 2


def test_info_on_what_is_no_model(run: Run, tmp_path: Path, weights_file: Path) -> None:
    done = run("info", weights_file.with_name("randm.safetensors"))
    assert done.code == 3
    assert f"did you mean {weights_file}?" in done.err
    (tmp_path / "x.pt").write_bytes(b"not weights")
    done = run("info", tmp_path / "x.pt")
    assert done.code == 3
    assert len(done.err.splitlines()) <= 2
    assert run("info", tmp_path).code == 3


def test_convert(run: Run, weights_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.safetensors"
    done = run("convert", weights_file, target)
    assert done.code == 0
    assert "leyolo-n, 3 classes" in done.err
    assert weights.load(target).names == {0: "cell", 1: "dot", 2: "ring"}
    done = run("convert", weights_file, target)
    assert done.code == 2
    assert "--force" in done.err
    assert run("convert", weights_file, target, "--force").code == 0
    assert "same file" in run("convert", weights_file, weights_file, "-f").err
    assert "must end in .safetensors" in run("convert", weights_file, tmp_path / "x.pt").err
    assert run("convert", tmp_path / "none.pt", tmp_path / "y.safetensors").code == 3
    assert run("convert").code == 2


def test_convert_to_half_with_a_licence(run: Run, weights_file: Path, tmp_path: Path) -> None:
    done = run("convert", weights_file, tmp_path / "a.safetensors", "--half", "--license", "CC0-1.0")
    assert "licence: CC0-1.0" in done.err
    assert run("convert", weights_file, tmp_path / "b.safetensors", "--license", " ").code == 2
    assert run("convert", "leyolo-n-shapes", tmp_path / "c.safetensors").code == 0
    assert weights.load(tmp_path / "c.safetensors").metadata["license"] == "Apache-2.0"
    written, source = weights.load(tmp_path / "a.safetensors"), weights.load(weights_file)
    assert written.metadata == {**source.metadata, "license": "CC0-1.0"}
    assert written.state["layers.0.conv.weight"].dtype == np.float16
    assert written.state["layers.0.bn.weight"].dtype == source.state["layers.0.bn.weight"].dtype


def states(run: Run) -> tuple[int, dict[str, Any]]:
    done = run("doctor", "--json")
    data = json.loads(done.out)
    assert data["ok"] == (done.code == 0)
    return done.code, {check["name"]: check for check in data["checks"]}


def test_doctor_on_a_working_installation(run: Run) -> None:
    code, found = states(run)
    assert code == 0
    assert found["kernels"]["state"] == "ok"
    assert found["prediction"]["state"] == "ok"
    assert all(check["text"] for check in found.values())
    assert all(check["advice"] for check in found.values() if check["state"] in ("warning", "error"))
    text = run("doctor").out
    assert "kernels" in text
    assert "Pillow" in text


def test_doctor_sees_a_lowered_isa(run: Run, process: Callable[..., Any]) -> None:
    import os

    done = process(
        "-m",
        "leyolo",
        "doctor",
        "--json",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LEYOLO_ISA": "baseline"},
    )
    cpu = next(c for c in json.loads(done.stdout)["checks"] if c["name"] == "cpu")
    assert cpu["state"] in ("warning", "note")
    if _C.cpu_features().get("avx2"):
        assert "LEYOLO_ISA=baseline" in cpu["text"]
        assert cpu["advice"] == "unset LEYOLO_ISA"


def test_doctor_names_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "version_of", lambda package: None)
    code, found = states(run)
    assert code == 4, "without Pillow nothing works"
    assert found["pictures"] == {
        **found["pictures"], "state": "error", "text": "Pillow is not installed", "advice": "pip install pillow"
    }  # fmt: skip
    assert "leyolo[video]" in found["video"]["advice"]
    assert "leyolo[val]" in found["evaluation"]["advice"]
    assert "leyolo[torch]" in found["torch"]["advice"]


def test_doctor_sees_kernels_that_calculate_wrongly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    letterbox = _C.letterbox

    def wrong(*arguments: Any, **options: Any) -> Any:
        x, scale, offset = letterbox(*arguments, **options)
        return x, 2 * scale, offset

    monkeypatch.setattr(_C, "letterbox", wrong)
    code, found = states(run)
    assert code == 4
    assert found["prediction"]["state"] == "error"


def test_doctor_survives_a_check_that_breaks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[checks.Check]:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(checks, "_video", broken)
    code, found = states(run)
    assert code == 4
    assert found["broken"]["text"] == "RuntimeError: unforeseen"


def test_doctor_on_old_torch_and_builds_without_operators(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checks.version_of
    monkeypatch.setattr(checks, "version_of", lambda package: "2.8.0+cu126" if package == "torch" else real(package))
    assert "older than 2.11" in states(run)[1]["torch"]["text"]
    monkeypatch.setattr(checks, "version_of", real)
    build = {**_C.build_info(), "torch_ops": False, "build_type": "Debug"}
    monkeypatch.setattr(_C, "build_info", lambda: build)
    found = states(run)[1]
    assert "no torch operators" in found["torch"]["text"] or found["torch"]["state"] == "note"
    assert found["build"]["state"] == "warning"


def test_benchmark_of_a_model(run: Run, weights_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "benchmark.json"
    arguments = ["--imgsz=64", "--rounds=2", "--threads=1", "--runtimes=leyolo", f"--json={target}"]
    done = run("benchmark", "model", "--model", weights_file, *arguments)
    assert done.code == 0, done.err
    (row,) = json.loads(target.read_text())["rows"]
    assert row["name"] == "leyolo"
    assert row["median_ms"] > 0
    assert row["ratio_to_ours"] == 1
    assert "leyolo" in done.out
    done = run("benchmark", "model", "--model", weights_file, "--runtimes=onnxruntme")
    assert done.code == 2
    assert "Did you mean 'onnxruntime'?" in done.err


def test_benchmark_of_a_size_without_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leyolo.predict.backends.load_weights", lambda model: pytest.fail("no weights are needed"))
    arguments = ["--random", "--imgsz=64", "--rounds=1", "--runtimes=leyolo"]
    done = run("benchmark", "model", "--model=leyolo-s", *arguments)
    assert done.code == 0, done.err
    assert "leyolo-s at 64, batch 1" in done.err
    done = run("benchmark", "pipeline", "--model=leyolo-x", *arguments)
    assert done.code == 2
    assert "no model is called 'leyolo-x'" in done.err


def test_benchmark_of_a_pipeline(run: Run, weights_file: Path, picture: Picture, tmp_path: Path) -> None:
    target = tmp_path / "benchmark.json"
    arguments = ["--model", weights_file, "--imgsz=64", "--rounds=2", "--threads=1", "--runtimes=leyolo"]
    done = run("benchmark", "pipeline", *arguments, "--source", picture(), f"--json={target}")
    assert done.code == 0, done.err
    report = json.loads(target.read_text())
    assert (report["source"]["width"], report["source"]["height"]) == (96, 64)
    assert report["rows"][0]["decode_ms"] > 0
    header = done.out.splitlines()[0].split("  ")
    assert [name.strip() for name in header if name][-4:] == ["decode", "preprocess", "network", "postprocess"]
    done = run("benchmark", "pipeline", *arguments, "--source", tmp_path / "none.jpg")
    assert done.code == 3
    assert "no such file" in done.err


def test_benchmark_says_what_is_left_out(run: Run, weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"name": "leyolo", "version": "1", "model": "leyolo-n", "size": "64", "batch": 1, "threads": 1}
    times = {"median_ms": 1.0, "p25_ms": 1.0, "p75_ms": 1.0, "ratio_to_ours": 1.0}
    ours = {**row, **times, "dtype": "float32", "ratio_to_ours_same_dtype": 1.0}
    skipped = {"name": "openvino", "reason": "openvino is not installed", "install": "pip install openvino"}
    report = {"environment": {"processor": "CPU"}, "rows": [ours], "skipped": [skipped]}
    monkeypatch.setattr("leyolo.bench.model.benchmark", lambda *_, **__: report)
    done = run("benchmark", "model", "--model", weights_file)
    assert "left out: openvino: openvino is not installed (pip install openvino)" in done.err
    done = run("benchmark", "model", "--model", weights_file, "--json=-")
    assert json.loads(done.out) == report


def test_val_goes_on_after_a_broken_picture(run: Run, weights_file: Path, picture: Picture, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.jpg", "c.jpg"):
        picture().rename(folder / name)
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes()[:40])
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 20, 20]} for i in range(3)]
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate("abc")]
    names = json.loads(run("info", weights_file, "--json").out)["names"]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": names[0]}]}
    (folder / "data.json").write_text(json.dumps(content))
    done = run("val", "--model", weights_file, "--data", folder / "data.json", "--imgsz=96", "--json=-")
    assert done.code == 0, done.err
    assert json.loads(done.out)["images"] == 3
    assert "b.jpg: cannot be read" in done.err


def test_val_takes_a_dtype(
    run: Run, weights_file: Path, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("data/a.png")
    names = json.loads(run("info", weights_file, "--json").out)["names"]
    content = {
        "images": [{"id": 0, "file_name": "a.png"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 20, 20]}],
        "categories": [{"id": 1, "name": names[0]}],
    }
    (tmp_path / "data" / "data.json").write_text(json.dumps(content))
    command = ("val", "--model", weights_file, "--data", tmp_path / "data" / "data.json", "--imgsz=96")
    features = _C.cpu_features()
    monkeypatch.setattr("leyolo._C.cpu_features", lambda: {**features, "bf16_dot": False})
    done = run(*command, "--dtype=bf16")
    assert done.code == 0, done.err
    assert "warning: bfloat16 needs a CPU with AVX512-BF16" in done.err
    assert "warning" not in run(*command, "--dtype=float32").err
    assert run(*command, "--dtype=bf17").code == 2


@pytest.mark.parametrize("command", [["val", "--data=x.json"], ["benchmark", "model"], ["benchmark", "pipeline"]])
def test_a_target_without_a_folder_is_refused_before_any_work(run: Run, command: list[str]) -> None:
    done = run(*command, "--model=nothing.pt", "--json=no/such/numbers.json")
    assert done.code == 2
    assert "there is no folder no/such" in done.err

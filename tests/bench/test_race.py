"""Runtimes in processes of their own: which take part, what happens when one is absent or fails."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from leyolo import weights
from leyolo.bench import model
from leyolo.bench.race import BenchmarkError, chosen
from leyolo.bench.runtimes import NETWORKS, PIPELINES

Child = Callable[[str], None]


def _benchmark(checkpoint: weights.Checkpoint, *runtimes: str) -> dict:
    return model.benchmark(checkpoint, imgsz=64, rounds=1, seconds=0.001, threads=1, runtimes=runtimes)


def test_who_takes_part() -> None:
    assert chosen([], NETWORKS) == ["leyolo"]
    assert chosen(["torch", "onnxruntime"], NETWORKS) == ["leyolo", "onnxruntime", "torch"]
    assert chosen(None, NETWORKS) == [name for name in NETWORKS if name != "torch.compile"]
    assert chosen(["all"], PIPELINES) == list(PIPELINES)


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [
        ("onnxruntime", "onnxruntime", "pip install torch onnxruntime onnx onnxscript"),
        ("openvino", "openvino", "pip install torch openvino"),
        ("ncnn", "pnnx", "pip install torch ncnn pnnx"),
        ("executorch", "executorch", "pip install torch executorch"),
        ("torch", "torch", "pip install torch"),
    ],
)
def test_missing_runtimes_are_listed(
    checkpoint: weights.Checkpoint, child: Child, name: str, module: str, install: str
) -> None:
    # Something stands in for `ncnn`, so that the first absent module is the one that is asked about.
    ncnn = "types.SimpleNamespace(__version__='1')"
    child(f"import sys, types; sys.modules.setdefault('ncnn', {ncnn}); sys.modules[{module!r}] = None")
    result = _benchmark(checkpoint, name)
    assert [row["name"] for row in result["rows"]] == ["leyolo"]
    (skipped,) = result["skipped"]
    assert skipped["name"] == name
    assert module in skipped["reason"]
    assert "not installed" in skipped["reason"]
    assert skipped["install"] == install


def test_a_runtime_that_cannot_load_is_left_out(checkpoint: weights.Checkpoint, child: Child) -> None:
    child("import torch; torch.set_num_threads = lambda count: 1 / 0")
    result = _benchmark(checkpoint, "torch")
    assert result["skipped"] == [
        {"name": "torch", "reason": "ZeroDivisionError: division by zero", "install": None},
    ]


def test_a_runtime_whose_process_dies_is_left_out(checkpoint: weights.Checkpoint, child: Child) -> None:
    child("import torch, os, signal; torch.set_num_threads = lambda count: os.kill(os.getpid(), signal.SIGSEGV)")
    result = _benchmark(checkpoint, "torch")
    assert result["skipped"][0]["reason"] == "its process was killed by SIGSEGV"


def test_nothing_is_measured_without_ours(checkpoint: weights.Checkpoint, child: Child) -> None:
    child("raise ValueError('boom')")
    with pytest.raises(BenchmarkError, match="the runtime 'leyolo' failed: ValueError: boom"):
        _benchmark(checkpoint)


def test_a_runtime_that_fails_later_ends_the_race(checkpoint: weights.Checkpoint, child: Child) -> None:
    child("from leyolo.bench import timing\ndef turn(*_): raise RuntimeError('tired')\ntiming.turn = turn")
    with pytest.raises(BenchmarkError, match="the runtime 'leyolo' failed: RuntimeError: tired"):
        _benchmark(checkpoint)


def test_processes_end_with_the_benchmark(
    checkpoint: weights.Checkpoint, child: Child, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pids")
    child(f"import os, pathlib; pathlib.Path({str(folder)!r}, str(os.getpid())).touch()")
    _benchmark(checkpoint, "torch")
    pids = [int(path.name) for path in folder.iterdir()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_only_tuned_runtimes_keep_memory(
    checkpoint: weights.Checkpoint,
    child: Child,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(variable)
    folder = tmp_path_factory.mktemp("environments")
    code = "os.environ.get('MALLOC_TRIM_THRESHOLD_', 'as installed')"
    child(f"import os, pathlib; pathlib.Path({str(folder)!r}, str(os.getpid())).write_text({code})")
    _benchmark(checkpoint, "torch as installed")
    assert sorted(path.read_text() for path in folder.iterdir()) == [str(1 << 32), "as installed"]

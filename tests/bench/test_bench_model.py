"""The benchmark measures what it says: same outputs, one process per runtime, ratios against ours."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leyolo import weights
from leyolo.bench import runtimes
from leyolo.bench.model import BenchmarkError, _compare, benchmark
from leyolo.models.network import build
from leyolo.models.transfer import from_torch


@pytest.fixture(scope="module")
def checkpoint() -> weights.Checkpoint:
    torch.manual_seed(0)
    return from_torch(build("n", 3))


def test_rows(checkpoint: weights.Checkpoint) -> None:
    turns: list[tuple[int, int]] = []
    names = ["torch", "torch channels_last folded", "leyolo on torch tensors"]
    result = benchmark(
        types.SimpleNamespace(checkpoint=checkpoint),
        imgsz=(64, 96),
        batch=2,
        threads=1,
        rounds=2,
        seconds=0.001,
        runtimes=names,
        progress=lambda done, total: turns.append((done, total)),
    )
    assert turns == [(i, 8) for i in range(1, 9)]
    assert json.loads(json.dumps(result)) == result
    assert result["skipped"] == []
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"leyolo", *names}
    for row in rows.values():
        assert {"name", "version", "size", "batch", "threads", "dtype", "median_ms", "ratio_to_ours"} <= set(row)
        assert (row["size"], row["batch"], row["threads"], row["dtype"]) == ("64x96", 2, 1, "float32")
        assert 0 < row["p25_ms"] <= row["median_ms"] <= row["p75_ms"]
        assert row["ratio_to_ours"] == pytest.approx(row["median_ms"] / rows["leyolo"]["median_ms"])
        assert row["max_abs_diff"] < 1e-3
    assert rows["leyolo"]["ratio_to_ours"] == 1
    assert rows["torch"]["version"] == torch.__version__
    assert result["environment"]["cpu_features"]["isa"] in ("baseline", "avx2", "avx512")


def test_missing_runtimes_are_listed(checkpoint: weights.Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = "import sys; sys.modules['onnxruntime'] = None; from leyolo.bench.runtimes import main; main()"
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda args, **rest: real([args[0], "-c", blocked], **rest))
    result = benchmark(checkpoint, imgsz=64, rounds=1, seconds=0.001, threads=1, runtimes=["onnxruntime"])
    assert [row["name"] for row in result["rows"]] == ["leyolo"]
    assert result["skipped"][0]["name"] == "onnxruntime"
    assert "onnxruntime" in result["skipped"][0]["reason"]


def test_a_runtime_that_dies_is_named(checkpoint: weights.Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda args, **rest: real([args[0], "-c", "raise ValueError('boom')"], **rest)
    )
    with pytest.raises(BenchmarkError, match="the runtime 'leyolo' failed: ValueError: boom"):
        benchmark(checkpoint, imgsz=64, runtimes=[])


def test_other_results_are_refused() -> None:
    logits = np.zeros((1, 4, 67), np.float32)
    assert _compare({"leyolo": logits, "torch": logits + np.float32(1e-4)})["torch"] == pytest.approx(1e-4)
    with pytest.raises(BenchmarkError, match=r"'torch' differ from those of 'leyolo' by 0\.01"):
        _compare({"leyolo": logits, "torch": logits + np.float32(0.01)})
    with pytest.raises(BenchmarkError, match="differ"):
        _compare({"leyolo": logits, "torch": logits * np.nan})
    with pytest.raises(BenchmarkError, match=r"logits \[1, 3, 67\]"):
        _compare({"leyolo": logits, "torch": logits[:, :3]})
    box = np.array([[10, 10, 50, 50, 0.9, 2.0], [0, 0, 9, 9, 0.26, 1]])
    ours, theirs = "predict leyolo", "predict torch channels_last"
    for same in (box + np.array([0.5, 0, 0, 0.5, 0.01, 0]), box[:1]):  # a shade off; a doubtful box less
        assert _compare({"leyolo": logits, ours: box, theirs: same}) == {"leyolo": 0}
    for other in (
        box[1:],
        box + np.array([9, 0, 9, 0, 0, 0]),
        box + np.array([0, 0, 0, 0, 0, 1]),
        np.concatenate([box, box + 100]),
    ):
        with pytest.raises(BenchmarkError, match=r"disagree about [12] boxes"):
            _compare({"leyolo": logits, ours: box, theirs: other})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imgsz": 100}, "positive multiples of 32, got 100 x 100"),
        ({"batch": 0}, "at least 1, got 0"),
        ({"threads": 0}, "at least 1"),
        ({"runtimes": ["torch folde"]}, "did you mean 'torch folded'"),
    ],
)
def test_rejects(checkpoint: weights.Checkpoint, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        benchmark(checkpoint, **options)


@pytest.mark.parametrize("side", [320, 640])
def test_torch_pipeline_finds_the_official_boxes(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, side: int
) -> None:
    """What we are compared with is right itself: the golden detections, through a plain NMS."""
    cv2 = pytest.importorskip("cv2")

    def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, threshold: float) -> torch.Tensor:
        rest, kept = scores.argsort(descending=True, stable=True), []
        while len(rest):
            best, rest = rest[0], rest[1:]
            kept.append(best)
            inter = (
                torch.minimum(boxes[best, 2:], boxes[rest, 2:]) - torch.maximum(boxes[best, :2], boxes[rest, :2])
            ).clamp(0)
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            overlap = inter.prod(1) / (areas[best] + areas[rest] - inter.prod(1))
            rest = rest[(overlap <= threshold) | (labels[rest] != labels[best])]
        return torch.stack(kept)

    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.ops", types.SimpleNamespace(batched_nms=batched_nms))
    image = cv2.imread(str(shared / "data/images/bus.jpg"))[..., ::-1].copy()
    threads = torch.get_num_threads()
    job = runtimes.Job(weights.load(shared / "weights/LeYOLONano.pt"), image, (side, side), threads)
    found = runtimes.PIPELINES["predict torch channels_last"](job)[0]()
    expected = np.load(shared / f"golden/leyolo/bus_{side}.npz")["det_c25_i70_orig"]
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=0, atol=0.05)
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], rtol=0, atol=1e-4)

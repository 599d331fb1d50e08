"""The benchmark of the forward pass measures what it says: same outputs, ratios against ours."""

from __future__ import annotations

import json
import types
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from leyolo import weights
from leyolo.bench.model import BenchmarkError, benchmark, compare
from leyolo.bench.runtimes import NETWORKS, OURS
from leyolo.models.network import build
from leyolo.models.transfer import from_torch

FIELDS = {
    *("name", "version", "model", "size", "batch", "threads", "dtype", "median_ms", "p25_ms", "p75_ms"),
    *("ratio_to_ours", "ratio_to_ours_same_dtype", "max_abs_diff", "relative_rms"),
}


def test_rows(checkpoint: weights.Checkpoint) -> None:
    turns: list[tuple[int, int]] = []
    loaded: list[str] = []
    names = ["torch", "torch as installed", "torch channels_last folded", "leyolo on torch tensors"]
    result = benchmark(
        types.SimpleNamespace(checkpoint=checkpoint),
        imgsz=(64, 96),
        batch=2,
        threads=1,
        rounds=2,
        seconds=0.001,
        runtimes=names,
        progress=lambda done, total: turns.append((done, total)),
        loading=loaded.append,
    )
    assert turns == [(i, 10) for i in range(1, 11)]
    assert sorted(loaded) == sorted(["leyolo", *names])
    assert json.loads(json.dumps(result)) == result
    assert result["skipped"] == []
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"leyolo", *names}
    for row in rows.values():
        assert set(row) == FIELDS
        assert (row["size"], row["batch"], row["threads"], row["dtype"]) == ("64x96", 2, 1, "float32")
        assert 0 < row["p25_ms"] <= row["median_ms"] <= row["p75_ms"]
        assert row["ratio_to_ours"] == pytest.approx(row["median_ms"] / rows["leyolo"]["median_ms"])
        assert row["ratio_to_ours_same_dtype"] == row["ratio_to_ours"]
        assert row["max_abs_diff"] < 1e-3
    assert rows["leyolo"]["ratio_to_ours"] == 1
    assert rows["torch"]["version"] == torch.__version__
    assert result["environment"]["cpu_features"]["isa"] in ("baseline", "avx2", "avx512")


@pytest.mark.parametrize("head", ["leyolo", "yolox"])
@pytest.mark.parametrize("name", [n for n, runtime in NETWORKS.items() if n != OURS["float32"] and runtime.usual])
def test_every_runtime_computes_the_network(name: str, head: str) -> None:
    """In its own process and for a batch, which some unroll; ``benchmark`` itself compares the logits."""
    absent = [package for package in NETWORKS[name].packages if find_spec(package) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed")
    torch.manual_seed(0)
    model = from_torch(build("n", 3, head))
    result = benchmark(model, imgsz=(64, 32), batch=2, threads=1, rounds=1, seconds=0.001, runtimes=[name])
    dtype = NETWORKS[name].dtype
    if dtype != "float32" and result["skipped"]:
        pytest.skip(result["skipped"][0]["reason"])
    assert result["skipped"] == []
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == list(dict.fromkeys([OURS["float32"], OURS[dtype], name]))
    row = rows[name]
    assert row["dtype"] == dtype
    assert row["version"][0].isdigit()
    assert row["ratio_to_ours_same_dtype"] == pytest.approx(row["median_ms"] / rows[OURS[dtype]]["median_ms"])


def test_other_results_are_refused() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 10, (1, 4, 67)).astype(np.float32)
    logits[0, 0, 0] = 40
    found = compare({"leyolo": logits, "torch": logits + np.float32(1e-4)})
    assert found["torch"]["max_abs_diff"] == pytest.approx(1e-4, rel=0.05)
    assert found["torch"]["relative_rms"] == pytest.approx(1e-5, rel=0.3)
    assert found["leyolo"] == {"max_abs_diff": 0, "relative_rms": 0}
    with pytest.raises(
        BenchmarkError, match=r"'torch' differ from those of 'leyolo' by 0\.01, expected at most 0\.002"
    ):
        compare({"leyolo": logits, "torch": logits + np.float32(0.01)})
    with pytest.raises(BenchmarkError, match="differ"):
        compare({"leyolo": logits, "torch": logits * np.nan})
    with pytest.raises(BenchmarkError, match=r"logits \[1, 3, 67\]"):
        compare({"leyolo": logits, "torch": logits[:, :3]})


def test_reduced_precision_has_its_own_bound() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 10, (1, 4, 67)).astype(np.float32)
    noise = random.normal(0, 10, logits.shape).astype(np.float32)
    found = compare({"leyolo": logits, "openvino bf16": logits + noise * np.float32(0.02)})
    assert found["openvino bf16"]["relative_rms"] == pytest.approx(0.02, rel=0.2)
    with pytest.raises(
        BenchmarkError, match=r"'openvino bf16' differ .* root mean square of 0\.1, expected at most 0\.05"
    ):
        compare({"leyolo": logits, "openvino bf16": logits * np.float32(1.1)})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imgsz": 100}, "positive multiples of 32, got 100 x 100"),
        ({"batch": 0}, "batch should be at least 1, got 0"),
        ({"threads": 0}, "threads should be between 1 and 256, got 0"),
        ({"rounds": -1}, "rounds should be at least 1, got -1"),
        ({"runtimes": ["torch folde"]}, "Did you mean 'torch folded'"),
    ],
)
def test_rejects(checkpoint: weights.Checkpoint, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        benchmark(checkpoint, **options)

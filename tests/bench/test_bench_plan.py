"""The plan counts what the model's description counts, and its rows say what the program does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leyolo import _C
from leyolo.bench.limits import Level, Limits
from leyolo.bench.plan import plan
from leyolo.bench.random_weights import random_checkpoint
from leyolo.cli.plan_text import text
from leyolo.cli.report import describe

LIMITS = Limits(
    "avx2", 1, 100.0, (Level("L1", 1 << 15, 1 << 14, 200.0, 200.0), Level("DRAM", None, 1 << 27, 10.0, 8.0))
)


@pytest.fixture(scope="module")
def nano() -> dict[str, Any]:
    return plan(random_checkpoint("n"), imgsz=320, threads=1, runs=3, limits=LIMITS)


def timed(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in found["steps"] if step["chain"] is None]


def test_sums(nano: dict[str, Any]) -> None:
    assert json.loads(json.dumps(nano)) == nano
    steps = timed(nano)
    described = describe(random_checkpoint("n"), 320)
    saved = 2 * 96 * 128 * (20 * 20 - 10 * 10)  # the upsampled channels of L17 are multiplied before the upsampling
    assert nano["total"]["flops"] == 2 * described["macs"] - saved
    assert all(step["time_us"] > 0 and step["floor_us"] > 0 for step in steps)
    for key, value in nano["total"].items():
        assert value == pytest.approx(sum(step[key] for step in steps))
    # Packed weights are the parameters, in whole vectors, without those of BatchNorm.
    assert 0.9 * 4 * described["parameters"] < nano["total"]["bytes_weights"] < 1.2 * 4 * described["parameters"]


def test_every_layer_has_its_row(nano: dict[str, Any]) -> None:
    names = [step["name"] for step in nano["steps"] if not step["name"].startswith("chain")]
    assert len(set(names)) == len(names)
    assert {"image", "L0", "L3.expand", "L3.depthwise", "L3.project", "L14.pool2", "P3.box+cls.0"} <= set(names)
    rows = {step["name"]: step for step in nano["steps"]}
    depthwise = rows["L3.depthwise"]
    assert (depthwise["kernel"], depthwise["in"], depthwise["out"]) == ("depthwise k3 s2", [80, 80, 96], [40, 40, 96])
    assert depthwise["bytes_in"] == 4 * 80 * 80 * 96
    assert depthwise["flops"] == 2 * 40 * 40 * 96 * 9
    assert depthwise["tile"] == [[_C.depthwise_strip(40), 1]]
    project = rows["L6.project"]
    assert project["residual"]
    assert project["bytes_in"] == 4 * 20 * 20 * (192 + 64)
    assert project["tile"] == [list(tile) for tile in _C.conv2d_tiles(64)]
    low, other = rows["L17.expand.low"], rows["L17.expand.other"]
    assert (low["in"], low["out"], low["addend"]) == ([10, 10, 96], [10, 10, 128], False)
    assert (other["in"], other["out"], other["addend"]) == ([20, 20, 64], [20, 20, 128], True)
    assert other["bytes_in"] == 4 * 20 * 20 * 64 + 4 * 10 * 10 * 128
    low = rows["L22.depthwise"]
    assert (low["in"], low["out"], low["addend"]) == ([40, 40, 32], [40, 40, 96], True)
    assert low["bytes_in"] == 4 * 40 * 40 * 32 + 4 * 20 * 20 * 64
    assert low["flops"] == 2 * 40 * 40 * 96 * 9
    assert rows["image"]["bytes_in"] == 320 * 320 * 3


def test_chains_hold_their_steps(nano: dict[str, Any]) -> None:
    steps = nano["steps"]
    chains = [i for i, step in enumerate(steps) if step["name"].startswith("chain")]
    assert chains
    for i in chains:
        members = [step for step in steps if step["chain"] == i]
        assert members == steps[i + 1 : i + 1 + len(members)]
        assert steps[i]["name"] == f"chain of {len(members)}"
        assert steps[i]["flops"] == sum(step["flops"] for step in members)
        assert (steps[i]["in"], steps[i]["out"]) == (members[0]["in"], members[-1]["out"])
        assert steps[i]["bytes_out"] == members[-1]["bytes_out"]
        assert all(step["time_us"] is None and step["floor_us"] is None for step in members)


def test_floor_is_that_of_the_limits(nano: dict[str, Any]) -> None:
    for step in timed(nano):
        moved = step["bytes_in"] + step["bytes_out"] + step["bytes_weights"]
        rate = 200e3 if moved <= 1 << 15 else 10e3  # bytes a microsecond
        assert step["floor_us"] == pytest.approx(max(step["flops"] / 100e3, moved / rate))
        assert step["level"] == ("L1" if moved <= 1 << 15 else "DRAM")


@pytest.mark.parametrize("size", ["n", "l"])
def test_text_fits_the_screen(size: str) -> None:
    found = plan(random_checkpoint(size), imgsz=640, threads=2, runs=1, limits=LIMITS)
    lines = text(found).splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0] == f"leyolo-{size}, 640 x 640, float32, 2 threads, avx2"
    assert any(line.startswith("total ") for line in lines)
    header = next(line for line in lines if line.startswith("step "))
    for step in timed(found):
        line = next(line for line in lines if line.startswith(f"{step['name']} "))
        assert len(line) == len(header)


def test_threads_are_restored() -> None:
    before = _C.num_threads()
    plan(random_checkpoint("n"), imgsz=32, threads=before + 1, runs=1, limits=LIMITS)
    assert _C.num_threads() == before


@pytest.mark.parametrize(
    ("options", "expected"), [({"imgsz": 100}, "got 100"), ({"imgsz": 0}, "got 0"), ({"runs": 0}, "got 0")]
)
def test_rejects(options: dict[str, int], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        plan(random_checkpoint("n"), limits=LIMITS, **options)

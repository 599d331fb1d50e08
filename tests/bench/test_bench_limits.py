"""The measured ceilings can be true, and floors follow from them."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from leyolo import _C
from leyolo.bench.limits import Level, Limits, measure


def best(threads: int) -> Limits:
    """Of several measurements: other programs may spoil one of them."""
    found = [measure(threads=threads, seconds=0.2) for _ in range(5)]
    levels = tuple(
        dataclasses.replace(same[0], read=max(level.read for level in same), copy=max(level.copy for level in same))
        for same in zip(*(each.levels for each in found), strict=True)
    )
    return dataclasses.replace(found[0], fma=max(each.fma for each in found), levels=levels)


@pytest.fixture(scope="module")
def one() -> Limits:
    return best(threads=1)


def test_relations(one: Limits) -> None:
    names = [level.name for level in one.levels]
    assert names in (["L1", "L2", "L3", "DRAM"], ["L1", "L2", "DRAM"])
    for near, far in zip(one.levels, one.levels[1:], strict=False):
        assert near.working_set < far.working_set
        assert near.read > 0.8 * far.read
        assert near.copy > 0.8 * far.copy
    assert one.levels[0].read > 1.5 * one.levels[-1].read
    assert (one.isa, one.threads) == (_C.cpu_features()["isa"], 1)
    # Between one lane a cycle at 0.5 GHz and two 512-bit units at 8 GHz.
    assert 1 < one.fma < 512


def test_more_threads_are_not_slower(one: Limits) -> None:
    cores = len(os.sched_getaffinity(0))
    before = _C.num_threads()
    many = best(threads=cores)
    assert _C.num_threads() == before
    assert many.threads == cores
    assert many.fma > 0.8 * one.fma
    assert many.levels[0].read > 0.8 * one.levels[0].read
    assert many.fma < 1.3 * cores * one.fma
    assert many.levels[0].size == cores * (one.levels[0].size or 0)


def test_it_repeats_itself(one: Limits) -> None:
    again = best(threads=1)
    assert again.fma == pytest.approx(one.fma, rel=0.25)
    assert again.levels[0].read == pytest.approx(one.levels[0].read, rel=0.25)


def test_floor() -> None:
    near, middle = Level("L1", 1000, 500, 200.0, 300.0), Level("L2", 5000, 2500, 80.0, 50.0)
    limits = Limits("avx2", 1, 100.0, (near, middle, Level("DRAM", None, 10**6, 10.0, 8.0)))
    assert [limits.level(size).name for size in (1, 1000, 1001, 5000, 5001)] == ["L1", "L1", "L2", "L2", "DRAM"]
    assert limits.floor(1e9, 0) == pytest.approx(1e-2)  # arithmetic decides
    assert limits.floor(1.0, 600) == pytest.approx(600 / 300e9)
    assert limits.floor(1.0, 4000) == pytest.approx(4000 / 80e9)
    assert limits.floor(1.0, 10**6) == pytest.approx(10**6 / 10e9)
    assert json.loads(json.dumps(limits.to_dict())) == {
        "isa": "avx2",
        "threads": 1,
        "gflop_per_s": 100.0,
        "read_gb_per_s": {"L1": 200.0, "L2": 80.0, "DRAM": 10.0},
        "copy_gb_per_s": {"L1": 300.0, "L2": 50.0, "DRAM": 8.0},
        "bytes": {"L1": 1000, "L2": 5000, "DRAM": None},
    }


@pytest.mark.parametrize(
    ("options", "text"), [({"threads": 0}, "got 0"), ({"seconds": 0}, "above 0"), ({"seconds": 61}, "got 61")]
)
def test_rejects(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        measure(**options)  # type: ignore[arg-type]

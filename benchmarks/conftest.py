"""What all bench files share: threads, allocator, the check of the outputs, and the three rows of every case.

pytest-benchmark keeps and compares these figures between commits (``--benchmark-autosave``, ``--benchmark-compare``).
``leyolo benchmark ops`` and ``leyolo benchmark model`` measure the same cases with all contestants, in turns: their
ratios are the better ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch

from leyolo.bench.ops import prepare
from leyolo.bench.ops.case import OURS, Case
from leyolo.bench.timing import Run, cores, turn

ROLES = (OURS, "torch", "best other library")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=cores(), help="for every contestant")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contest" in metafunc.fixturenames:
        pairs = [(case, role) for case in metafunc.module.CASES for role in ROLES]
        metafunc.parametrize("contest", pairs, indirect=True, ids=[f"{case.name}-{role}" for case, role in pairs])


@pytest.fixture(scope="session", autouse=True)
def threads(pytestconfig: pytest.Config) -> int:
    count = int(pytestconfig.getoption("--threads"))
    prepare(count)
    return count


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@lru_cache(maxsize=1)  # the rows of a case follow one another
def _fastest(case: Case, threads: int) -> dict[str, tuple[str, Run]]:
    """By role the fastest contestant, its outputs compared; of ours the plain operator."""
    runs, _ = case.checked(threads)
    times = {name: turn(run, 0.01) for name, run in runs.items()}
    found: dict[str, tuple[str, Run]] = {}
    for name in sorted(times, key=times.__getitem__):
        family = name.replace(",", "").split()[0]
        role = family if family in ROLES else ROLES[2]
        if family != OURS or name == OURS:
            found.setdefault(role, (name, runs[name]))
    return found


@pytest.fixture
def contest(request: pytest.FixtureRequest, benchmark: Any, threads: int) -> Callable[[], None]:
    """Measures one role of one case."""
    case, role = request.param

    def measure() -> None:
        fastest = _fastest(case, threads)
        if role not in fastest:
            pytest.skip(f"no {role} for this operator is installed")
        name, run = fastest[role]
        benchmark.group = f"{case.op}: {case.name}"
        benchmark.extra_info.update(contestant=name, threads=threads, bytes=case.bytes, operations=case.operations)
        benchmark(run)
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["gb_per_s"] = case.bytes / seconds / 1e9
        if case.operations is not None:
            benchmark.extra_info["gflop_per_s"] = case.operations / seconds / 1e9

    return measure

"""The clock of every benchmark: warm-up, turns, quartiles, and the state of the process that they need."""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Run = Callable[[], Any]

WARM_UP = 2
SLOW_ROUNDS = 3
PAUSE = 0.002
"""Seconds between turns within one process: threads of the last contestant that still spin go to sleep."""


class Quartiles(NamedTuple):
    """Of samples, in their unit."""

    low: float
    median: float
    high: float


def quartiles(samples: list[float]) -> Quartiles:
    return Quartiles(*(float(q) for q in np.percentile(samples, [25, 50, 75])))


def turn(run: Run, seconds: float, warm_up: int = WARM_UP) -> float:
    """The median of as many calls as fit into ``seconds``, in milliseconds."""
    for _ in range(warm_up):
        run()
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def measure(runs: Mapping[str, Run], *, rounds: int, seconds: float) -> dict[str, Quartiles]:
    """Milliseconds per call of every contestant, in turns: round by round, starting with another one each round.

    A contestant whose single call takes ten turns' time or more gets three turns of one call without warm-up.
    """
    order = list(runs)
    slow = {name for name, run in runs.items() if turn(run, 0, warm_up=0) > 1e4 * seconds}
    samples: dict[str, list[float]] = {name: [] for name in order}
    for number in range(rounds * len(order)):
        name = order[(number + number // len(order)) % len(order)]
        if name in slow and len(samples[name]) == SLOW_ROUNDS:
            continue
        time.sleep(PAUSE)
        samples[name].append(turn(runs[name], seconds, 0 if name in slow else WARM_UP))
    return {name: quartiles(times) for name, times in samples.items()}


def keep_memory() -> None:
    """Makes glibc keep freed blocks for the rest of this process, as ``leyolo benchmark model`` does for its runtimes:
    otherwise it gives large ones back and page-faults them in again at every call, which costs torch up to half its
    time. Does nothing where the C library is another one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((-1, -1), (-2, 1 << 26), (-4, 0)):  # no trimming, grow by 64 MiB, no mmap
            mallopt(parameter, value)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

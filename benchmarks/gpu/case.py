"""What a file of cases gives to run.py, and how it is timed: back to back on the stream, and as a CUDA graph."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

OURS = "leyolo"
Run = Callable[[], Any]


@dataclass(frozen=True)
class GpuCase:
    """One comparison.

    contestants  by name, OURS among them; each is called without arguments and returns tensors
    bytes        that must move at least: the floor, from the bandwidth that this device has shown
    goal_us      that we have set ourselves, None without one
    tolerance    largest absolute difference to our result; None where results are not compared
    headline     measured in the first, quick pass
    """

    name: str
    contestants: dict[str, Run]
    bytes: int = 0
    goal_us: float | None = None
    tolerance: float | None = None
    headline: bool = False


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_per_call(run: Run, device: str, calls: int) -> float:
    if device != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / calls


def median_us(run: Run, device: str, *, rounds: int, target: float) -> float:
    """Median of ``rounds`` samples of about ``target`` seconds."""
    for _ in range(3):
        run()
    synchronize(device)
    calls = max(1, min(1000, math.ceil(target / max(seconds_per_call(run, device, 2), 1e-7))))
    return 1e6 * statistics.median(seconds_per_call(run, device, calls) for _ in range(rounds))


def graph_us(run: Run, device: str, *, rounds: int, target: float) -> float | None:
    """The same without the launches of the host: 10 calls in a graph. None where the contestant cannot be captured."""
    if device != "cuda":
        return None
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(10):
                run()
    except RuntimeError:  # it synchronises, or allocates outside of torch
        torch.cuda.synchronize()
        return None
    return median_us(graph.replay, device, rounds=rounds, target=target) / 10


def largest_difference(ours: Any, theirs: Any) -> float:
    """NaN equals NaN."""
    if isinstance(ours, Tensor):
        assert ours.shape == theirs.shape, f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
        difference = (ours.double() - theirs.double()).abs()
        difference = difference.masked_fill(ours.isnan() & theirs.isnan(), 0)
        return float(difference.max()) if difference.numel() else 0.0
    assert isinstance(ours, Sequence)
    return max((largest_difference(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def measure(case: GpuCase, device: str, bandwidth: float, *, quick: bool) -> list[dict[str, Any]]:
    """A row per contestant. Who computes something else than we do, or fails, gets an "error" instead of times."""
    rounds, target = (5, 0.01) if quick else (15, 0.05)
    ours = case.contestants[OURS]()
    floor = 1e6 * case.bytes / bandwidth
    rows: list[dict[str, Any]] = []
    for name, run in case.contestants.items():
        row: dict[str, Any] = {"case": case.name, "name": name, "bytes": case.bytes, "floor_us": floor}
        rows.append(row | {"goal_us": case.goal_us if name == OURS else None})
        row = rows[-1]
        try:
            theirs = run()
            if case.tolerance is not None:
                row["max_difference"] = largest_difference(ours, theirs)
                if not row["max_difference"] <= case.tolerance:
                    row["error"] = f"differs by {row['max_difference']:.3g}, expected at most {case.tolerance:.3g}"
                    continue
            row["median_us"] = median_us(run, device, rounds=rounds, target=target)
            row["graph_us"] = graph_us(run, device, rounds=rounds, target=target)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    base = next(row for row in rows if row["name"] == OURS)
    for row in rows:
        for key in ("median_us", "graph_us"):
            if row.get(key) and base.get(key):
                row[key.replace("_us", "_ratio")] = row[key] / base[key]
    return rows

"""Benchmarks of single operators on a GPU: what a case is, its clock, and the command line that every file here has.

    python benchmarks/gpu/nms.py --json nms.jsonl        # on the GPU
    python benchmarks/gpu/nms.py --device cpu --tiny     # a rehearsal of every line, anywhere
    python benchmarks/gpu/run.py                         # all of them, with a table

Times are medians of single calls between CUDA events, with cold caches: a buffer larger than the L2 is cleared before
every call. ``graph`` is ours as a replayed CUDA graph, without the cost of launching from Python; it is missing where
the call has to wait for the GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One piece of work.

    ours, eager  do it once; eager is plain torch, None where that takes too long to be measured
    bytes        that have to be read and written at least once
    operations   floating-point operations; None where counting them says nothing
    tolerance    largest difference of ``eager`` from ours, relative to the largest value; None: not compared
    others       further contestants by name
    graph        whether ours can be captured
    goal_ms      that we have set ourselves, for ours in a graph where it can be captured
    headline     of those that are measured first (--headline)
    """

    op: str
    name: str
    ours: Run
    eager: Run | None
    bytes: int
    operations: int | None = None
    tolerance: float | None = 0.0
    others: dict[str, Run] | None = None
    graph: bool = True
    goal_ms: float | None = None
    headline: bool = False


class Clock:
    """Milliseconds of a call."""

    def __init__(self, device: str, seconds: float) -> None:
        self.cuda, self.seconds = device == "cuda", seconds
        self.flush = torch.empty(256 << 20 if self.cuda else 0, dtype=torch.uint8, device=device)

    def once(self, run: Run) -> float:
        if not self.cuda:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1e3
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def median(self, run: Run) -> float:
        start = time.perf_counter()
        run()
        if self.cuda:
            torch.cuda.synchronize()
        slow = time.perf_counter() - start > 2 * self.seconds
        for _ in range(0 if slow else 2):
            run()
        times: list[float] = []
        start = time.perf_counter()
        while len(times) < (1 if slow else 3) or (len(times) < 200 and time.perf_counter() - start < self.seconds):
            times.append(self.once(run))
        return statistics.median(times)

    def graph(self, run: Run) -> float | None:
        if not self.cuda:
            return None
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            run()
        return self.median(recorded.replay)


def _flat(result: Any) -> list[Tensor]:
    parts = result if isinstance(result, tuple | list) else (result,)
    return [part.detach().double() for part in parts if isinstance(part, Tensor)]


def difference(ours: Any, other: Any) -> float:
    """Largest difference, relative to the largest value of each result; infinite where shapes differ."""
    worst = 0.0
    for a, b in zip(_flat(ours), _flat(other), strict=True):
        if a.shape != b.shape:
            return float("inf")
        if a.numel():
            scale = float(b.nan_to_num(0, 0, 0).abs().max()) or 1.0
            worst = max(worst, float((a - b).nan_to_num(0).abs().max()) / scale)
    return worst


def measure(case: Case, clock: Clock) -> dict[str, Any]:
    row: dict[str, Any] = {"op": case.op, "case": case.name, "bytes": case.bytes, "operations": case.operations}
    row["goal_ms"] = case.goal_ms
    if case.eager and case.tolerance is not None:
        row["difference"] = difference(case.ours(), case.eager())
        row["agrees"] = row["difference"] <= case.tolerance
    row["ours_ms"] = clock.median(case.ours)
    if case.eager:
        row["eager_ms"] = clock.median(case.eager)
        row["ratio"] = row["eager_ms"] / row["ours_ms"]
    if case.graph and (replayed := clock.graph(case.ours)) is not None:
        row["graph_ms"] = replayed
    for name, run in (case.others or {}).items():
        row[f"{name}_ms"] = clock.median(run)
    row["gb_per_s"] = case.bytes / row.get("graph_ms", row["ours_ms"]) / 1e6
    return row


def main(cases: Callable[[str, bool], Iterable[Case]]) -> None:
    parser = argparse.ArgumentParser(description="Ours against plain torch, one line of JSON per case.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small sizes, to rehearse")
    parser.add_argument("--headline", action="store_true", help="only what counts most")
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    parser.add_argument("--json", help="also append the lines to this file")
    options = parser.parse_args()
    clock = Clock(options.device, 0.01 if options.tiny else options.seconds)
    for case in cases(options.device, options.tiny):
        if options.headline and not case.headline:
            continue
        try:
            row = measure(case, clock)
        except Exception as error:  # the other cases go on: a GPU is at hand for minutes only
            row = {"op": case.op, "case": case.name, "error": f"{type(error).__name__}: {error}"}
        del case  # and its tensors
        print(json.dumps(row), flush=True)
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps(row) + "\n")

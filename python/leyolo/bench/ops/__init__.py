"""``leyolo benchmark ops``: every operator beside torch and the best other libraries, on shapes of LeYOLO itself.

All contestants of a case run in this process, in turns (:mod:`leyolo.bench.timing`), on the same warm inputs, each in
the memory layout it likes best; outputs are compared before anything is timed. ``cases`` of the module named after an
operator lists its cases.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from leyolo import _C, __version__
from leyolo.bench import limits
from leyolo.bench.environment import environment
from leyolo.bench.ops.case import OURS, PEERS, Case, peer, why_not
from leyolo.bench.ops.modules import BLOCKS
from leyolo.bench.race import checked_counts, default_threads
from leyolo.bench.timing import Quartiles, keep_memory, measure
from leyolo.errors import UsageError, nearest
from leyolo.models.config import lookup

OPS = (
    "depthwise_conv2d",
    "batch_norm_act",
    "inverted_bottleneck",
    "inverted_bottleneck_norm",
    "conv2d",
    "forward",
    "max_pool2d",
    "nms",
    "box_iou",
    "box_iou_loss",
    "detect_decode",
    "letterbox",
    "simota",
    "tal",
    "ota",
    "fcos",
)
"""All that can be measured: the folders of ``csrc/ops``."""

TOTAL_OF = {BLOCKS: {"conv2d", "forward", "inverted_bottleneck"}}
"""Sums over the cases of several operators, reported where all of them are measured."""


def cases(op: str, *, size: str = "n", imgsz: int = 640) -> list[Case]:
    """The cases of operator ``op`` on the shapes of one network and image size."""
    if op not in OPS:
        raise UsageError(f"no benchmark is called {op!r} (known: {', '.join(OPS)}).{nearest(op, OPS)}")
    found: list[Case] = importlib.import_module(f"leyolo.bench.ops.{op}").cases(size, imgsz)
    return found


def prepare(threads: int) -> None:
    """Sets this process up for timing: ``threads`` for everybody, an allocator that keeps its memory."""
    keep_memory()
    torch.set_num_threads(threads)
    _C.set_num_threads(threads)
    if cv2 := peer("cv2"):
        cv2.setNumThreads(threads)


def benchmark(
    ops: Sequence[str] | None = None,
    *,
    size: str = "n",
    imgsz: int = 640,
    threads: int | None = None,
    rounds: int = 9,
    seconds: float = 0.02,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures operators; call it in a process of its own, since it sets threads and allocator for good.

    ops       names from :data:`OPS`; None: all
    size      of the network whose shapes are taken: "n", "s", "m" or "l"
    imgsz     side of the network's input, a multiple of 32
    threads   for every contestant; None: the cores this process may use
    rounds    samples per contestant; ``seconds`` of timed calls in each
    progress  called with the cases done and their number

    Returns ``{"environment": {…}, "rows": […], "totals": […], "skipped": […]}``, ready for JSON. A row has op, case,
    name, version, threads, dtype, median_ms, p25_ms, p75_ms, ratio_to_ours (its median over ours: above 1 it is
    slower), bytes, operations, gb_per_s, gflop_per_s (None where operations are not counted), of_limit (the share of
    what the machine's arithmetic or memory would allow) and max_difference to our result. A total has name, contestant,
    threads, ms and ratio_to_ours: medians, each times how often the case occurs in the network. The environment holds
    the machine's "limits" (:class:`leyolo.bench.limits.Limits`).

    Raises CheckError where a contestant computes something else than we do, UsageError for unknown names.
    """
    if imgsz < 32 or imgsz % 32:
        raise UsageError(f"imgsz should be a positive multiple of 32, got {imgsz}")
    checked_counts(rounds=rounds)
    threads = default_threads(threads)
    size = lookup(size).size
    table = [case for op in dict.fromkeys(ops or OPS) for case in cases(op, size=size, imgsz=imgsz)]
    whole = {name for name, parts in TOTAL_OF.items() if parts <= {case.op for case in table}}
    prepare(threads)
    ceilings = limits.measure(threads)
    rows: list[dict[str, Any]] = []
    sums: dict[str, list[tuple[int, dict[str, float]]]] = {}
    with torch.no_grad():
        for number, case in enumerate(table):
            runs, differences = case.checked(threads)
            times = measure(runs, rounds=rounds, seconds=seconds)
            floor = 1e3 * ceilings.floor(case.operations or 0, case.bytes)
            for name, time in times.items():
                rows.append(_row(case, name, time, times[OURS], floor, differences[name], threads))
            for total, count in case.totals.items():
                if total in TOTAL_OF and total not in whole:
                    continue  # a part of it would pass for the whole
                sums.setdefault(total, []).append((count, {name: time.median for name, time in times.items()}))
            if progress is not None:
                progress(number + 1, len(table))
    totals = [{"threads": threads, **total} for name, parts in sums.items() for total in _total(name, parts)]
    skipped = [{"name": name, "reason": why_not(name)} for name in PEERS if peer(name) is None]
    return {
        "environment": {**environment(threads), "size": size, "imgsz": imgsz, "limits": ceilings.to_dict()},
        "rows": rows,
        "totals": totals,
        "skipped": skipped,
    }


def _row(
    case: Case, name: str, time: Quartiles, ours: Quartiles, floor: float, difference: float, threads: int
) -> dict[str, Any]:
    return {
        "op": case.op,
        "case": case.name,
        "name": name,
        "version": _version(name),
        "threads": threads,
        "dtype": "float32",
        "median_ms": time.median,
        "p25_ms": time.low,
        "p75_ms": time.high,
        "ratio_to_ours": time.median / ours.median,
        "bytes": case.bytes,
        "operations": case.operations,
        "gb_per_s": case.bytes / time.median / 1e6,
        "gflop_per_s": None if case.operations is None else case.operations / time.median / 1e6,
        "of_limit": floor / time.median,
        "max_difference": difference,
    }


def _total(name: str, parts: list[tuple[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """Sums for everyone who took part in every case; a plainer variant of the same name stands in where one did not
    (a block without a batch norm has no folded form)."""

    def time(contestant: str, times: dict[str, float]) -> float:
        while contestant and contestant not in times:
            contestant = contestant.rpartition(" ")[0]
        return times.get(contestant, math.nan)

    sums = {
        contestant: sum(count * time(contestant, times) for count, times in parts)
        for contestant in dict.fromkeys(contestant for _, times in parts for contestant in times)
    }
    return [
        {"name": name, "contestant": contestant, "ms": ms, "ratio_to_ours": ms / sums[OURS]}
        for contestant, ms in sums.items()
        if not math.isnan(ms)
    ]


def _version(contestant: str) -> str:
    """Of the library that a contestant's name begins with; "" for loops of our own."""
    name = contestant.replace(",", "").split()[0]
    return __version__ if name == OURS else str(getattr(peer(name), "__version__", ""))

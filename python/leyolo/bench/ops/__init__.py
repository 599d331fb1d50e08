"""``leyolo benchmark ops``: every operator beside torch and the best other libraries, on shapes of LeYOLO itself.

All contestants of a case run in this process, in turns (:mod:`leyolo.bench.timing`), on the same warm inputs, each in
the memory layout it likes best; outputs are compared before anything is timed. ``cases`` of the module named after an
operator lists its cases.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from leyolo import _C, __version__
from leyolo.bench.environment import environment
from leyolo.bench.ops.case import OURS, PEERS, Case, peer, why_not
from leyolo.bench.timing import Quartiles, cores, keep_memory, measure
from leyolo.errors import UsageError, nearest
from leyolo.models.config import lookup

OPS = ("depthwise_conv2d", "inverted_bottleneck", "nms", "box_iou")


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
    name, threads, dtype, median_ms, p25_ms, p75_ms, ratio_to_ours (its median over ours: above 1 it is slower), bytes,
    operations, gb_per_s, gflop_per_s (None where operations are not counted) and max_difference to our result. A total
    has name, contestant, threads, ms and ratio_to_ours: medians, each times how often the case occurs in the network.

    Raises CheckError where a contestant computes something else than we do, UsageError for unknown names.
    """
    size = lookup(size).size
    table = [case for op in ops or OPS for case in cases(op, size=size, imgsz=imgsz)]
    threads = threads or cores()
    prepare(threads)
    rows: list[dict[str, Any]] = []
    sums: dict[str, list[tuple[int, dict[str, float]]]] = {}
    with torch.no_grad():
        for number, case in enumerate(table):
            runs, differences = case.checked(threads)
            times = measure(runs, rounds=rounds, seconds=seconds)
            for name, time in times.items():
                rows.append(_row(case, name, time, times[OURS], differences[name], threads))
            for total, count in case.totals.items():
                sums.setdefault(total, []).append((count, {name: time.median for name, time in times.items()}))
            if progress is not None:
                progress(number + 1, len(table))
    totals = [{"threads": threads, **total} for name, parts in sums.items() for total in _total(name, parts)]
    skipped = [{"name": name, "reason": why_not(name)} for name in PEERS if peer(name) is None]
    return {
        "environment": {**environment(threads), "size": size, "imgsz": imgsz},
        "rows": rows,
        "totals": totals,
        "skipped": skipped,
    }


def _row(case: Case, name: str, time: Quartiles, ours: Quartiles, difference: float, threads: int) -> dict[str, Any]:
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
        "max_difference": difference,
    }


def _total(name: str, parts: list[tuple[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """Sums for everyone who took part in every case; where a variant of ours did not, the plain one stands in."""
    found = {}
    for contestant in dict.fromkeys(c for _, times in parts for c in times):
        stand_in = OURS if contestant.startswith(OURS) else contestant
        times = [(count, times.get(contestant, times.get(stand_in))) for count, times in parts]
        if all(time is not None for _, time in times):
            found[contestant] = sum(count * time for count, time in times if time is not None)
    return [
        {"name": name, "contestant": contestant, "ms": ms, "ratio_to_ours": ms / found[OURS]}
        for contestant, ms in found.items()
    ]


def _version(contestant: str) -> str:
    """Of the library that a contestant's name begins with; "" for loops of our own."""
    name = contestant.replace(",", "").split()[0]
    return __version__ if name == OURS else str(getattr(peer(name), "__version__", ""))

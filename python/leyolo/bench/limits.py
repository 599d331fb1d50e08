"""What this machine can do at most, measured: the ceilings that kernels are held against. Needs only ``leyolo._C``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from leyolo import _C
from leyolo.errors import UsageError

MOST_THREADS = 256


@dataclass(frozen=True)
class Level:
    """One level of the memory, of all threads together.

    size         bytes that fit into it; None for DRAM
    working_set  bytes that were walked over to measure it
    read, copy   GB/s; a copied byte counts twice, once read and once written
    """

    name: str
    size: int | None
    working_set: int
    read: float
    copy: float


@dataclass(frozen=True)
class Limits:
    """The ceilings for ``threads`` threads on the instruction set in use: ``fma`` in float32 GFLOP/s (a multiply-add
    is two), and the levels "L1", "L2", "L3" (left out where the machine shows none), "DRAM", nearest first."""

    isa: str
    threads: int
    fma: float
    levels: tuple[Level, ...]

    def level(self, size: int) -> Level:
        """The nearest level that holds ``size`` bytes."""
        return next(level for level in self.levels if level.size is None or size <= level.size)

    def floor(self, flops: float, moved: int) -> float:
        """Seconds below which no program does ``flops`` operations on ``moved`` bytes that lie where they fit."""
        level = self.level(moved)
        return max(flops / self.fma, moved / max(level.read, level.copy)) * 1e-9

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; of levels by their name."""
        return {
            "isa": self.isa,
            "threads": self.threads,
            "gflop_per_s": self.fma,
            "read_gb_per_s": {level.name: level.read for level in self.levels},
            "copy_gb_per_s": {level.name: level.copy for level in self.levels},
            "bytes": {level.name: level.size for level in self.levels},
        }


def measure(threads: int | None = None, seconds: float = 0.5) -> Limits:
    """Measures this machine.

    Args:
        threads: how many at the same time; None: as many as ``leyolo._C`` uses now.
        seconds: about how long it may take, above 0 and at most 60. The best of many short turns counts, so that a
            longer time makes it steadier, not higher.

    Raises:
        UsageError: a wrong argument.
        ValueError: another thread of this process is keeping the pool busy, or the system refuses the threads.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"threads should be between 1 and {MOST_THREADS}, got {threads}")
    if not 0 < seconds <= 60:
        raise UsageError(f"seconds should be above 0 and at most 60, got {seconds}")
    before = _C.num_threads()
    threads = threads or before
    _C.set_num_threads(threads)
    try:
        found = _C.machine_limits(seconds)
    finally:
        _C.set_num_threads(before)
    features = _C.cpu_features()
    sizes = {
        "L1": features["l1_bytes"] * threads,
        "L2": features["l2_bytes"] * threads,
        "L3": features["l3_bytes"] * -(-threads // features["l3_cores"]),
    }
    levels = tuple(
        Level(name, sizes.get(name), working_set * threads, read * 1e-9, copied * 1e-9)
        for name, working_set, read, copied in found["levels"]
    )
    return Limits(features["isa"], threads, found["flops"] * 1e-9, levels)

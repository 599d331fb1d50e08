"""What a benchmark of an operator is made of: cases, and those who compete in them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from leyolo.bench.timing import Run
from leyolo.errors import CheckError

OURS = "leyolo"
"""The contestant that the others are compared with: the torch operator, as ``leyolo.ops`` offers it."""

PEERS = ("cv2", "ncnn", "onnxruntime", "onnxscript", "openvino", "pnnx", "torchvision")
"""Libraries that take part where they are installed; onnxscript converts for ONNX Runtime, pnnx for ncnn."""


def _all(result: Any) -> Sequence[Any]:
    return result if isinstance(result, tuple | list) else (result,)


@dataclass(frozen=True)
class Contestant:
    """One way to do the work of a case.

    run   does it once; its result is what ``read`` turns into arrays
    read  arrays (numpy or torch), in the order and shape that all contestants of the case share
    """

    run: Run
    read: Callable[[Any], Sequence[Any]] = _all


def largest_difference(ours: Sequence[Any], other: Sequence[Any]) -> float:
    """Of any two values; infinite where shapes differ or one side alone is NaN."""
    if len(ours) != len(other):
        return math.inf
    worst = 0.0
    for a, b in zip(map(_array, ours), map(_array, other), strict=True):
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            return math.inf
        with np.errstate(invalid="ignore"):  # infinity less infinity
            worst = max(worst, float(np.nan_to_num(np.abs(a - b), nan=0.0, posinf=math.inf).max(initial=0)))
    return worst


def unequal_share(ours: Sequence[Any], other: Sequence[Any]) -> float:
    """The share of entries that are not equal; infinite where shapes differ. For decisions that hang on rounding."""
    if any(_array(a).shape != _array(b).shape for a, b in zip(ours, other, strict=True)):
        return math.inf
    return max(float((_array(a) != _array(b)).mean()) for a, b in zip(ours, other, strict=True))


def _array(value: Any) -> Any:
    array = np.asarray(value)
    return array if array.dtype.kind in "iu" else array.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Case:
    """One piece of work.

    build       contestants for a number of threads, :data:`OURS` first; called when the case's turn comes
    bytes       that have to be read and written at least once: inputs, weights, results
    operations  floating-point operations, two for a multiply-accumulate; None where counting them says nothing
    tolerance   the largest ``difference`` from our result that counts as rounding
    totals      how often the case occurs in each of these sums
    """

    op: str
    name: str
    build: Callable[[int], Mapping[str, Contestant]]
    bytes: int
    tolerance: float
    operations: int | None = None
    difference: Callable[[Sequence[Any], Sequence[Any]], float] = largest_difference
    totals: Mapping[str, int] = field(default_factory=dict)

    def checked(self, threads: int) -> tuple[dict[str, Run], dict[str, float]]:
        """The contestants, and how far each is from our result; CheckError where one computes something else."""
        contestants = self.build(threads)
        expected = contestants[OURS].read(contestants[OURS].run())
        runs, differences = {}, {}
        for name, contestant in contestants.items():
            difference = self.difference(expected, contestant.read(contestant.run()))
            if not difference <= self.tolerance:
                raise CheckError(
                    f"{self.op} {self.name}: the result of {name!r} differs from that of {OURS!r} by {difference:.3g}, "
                    f"expected at most {self.tolerance:g}"
                )
            runs[name], differences[name] = contestant.run, difference
        return runs, differences


@cache
def peer(name: str) -> Any:
    """The library of this name, or None where it cannot be imported (:func:`why_not` says why)."""
    try:
        return importlib.import_module(name)
    except Exception:  # a library for another torch raises what it likes
        return None


def why_not(name: str) -> str:
    """Why a library cannot be imported, in one line."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""

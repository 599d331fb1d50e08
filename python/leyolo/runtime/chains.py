"""Which steps run row by row: chains whose maps in between would not stay in the cache (``csrc/core/stream.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leyolo.runtime.program import ARENA, CONV2D, DEPTHWISE, UNIT, Buffer, Step

_BANDS = (8, 4, 2, 1)
_MOST_STEPS = 16  # of one chain: csrc/core/stream.cpp


@dataclass(frozen=True)
class Streaming:
    """What the decision needs.

    threads      that may share a chain; more of them than the program was made for leave some idle
    cache_bytes  of the second-level cache of a core: a map that takes more than ``share`` of it leaves the core between
                 two steps, and the windows of a chain must fit into ``share`` of it
    share        0: every map is too large, for tests; infinite: none is
    value_bytes  of a value of a map
    """

    threads: int = 1
    cache_bytes: int = 1 << 20
    share: float = 0.5
    value_bytes: int = 4


@dataclass(frozen=True)
class Chain:
    """Steps ``first`` to ``last`` of a program; ``rows`` that each but the last keeps of its output."""

    first: int
    last: int
    band: int
    rows: tuple[int, ...]
    window: Buffer

    @property
    def window_size(self) -> int:
        return self.window.width


def chains(steps: Sequence[Step], streaming: Streaming) -> list[Chain]:
    """The longest chains that pay, from the front."""
    found: list[Chain] = []
    index = 0
    while index < len(steps):
        last = index
        best: Chain | None = None
        while last + 1 < len(steps) and last + 1 - index < _MOST_STEPS and _joined(steps, last, streaming):
            last += 1
            longer = _chain(steps, index, last, streaming)
            if longer is None:
                break
            best = longer
        if best is not None:
            found.append(best)
        index = best.last + 1 if best else index + 1
    return found


def _joined(steps: Sequence[Step], i: int, streaming: Streaming) -> bool:
    """Whether step i + 1 is the only reader of step i's output, as its input, and the map is too large to stay."""
    this, following = steps[i], steps[i + 1]
    buffer = this.y.buffer
    return (
        all(step.kind in (CONV2D, DEPTHWISE, UNIT) for step in (this, following))
        and buffer.space == ARENA
        and following.x == this.y
        and this.y.channels == buffer.channels
        and (buffer.first, buffer.last) == (i, i + 1)
        and (following.residual is None or following.residual.buffer is not buffer)
        and (this.kind == UNIT or streaming.value_bytes * buffer.size > streaming.share * streaming.cache_bytes)
    )


def _chain(steps: Sequence[Step], first: int, last: int, streaming: Streaming) -> Chain | None:
    for band in _BANDS:
        rows, kept = band, []
        for step in reversed(steps[first + 1 : last + 1]):
            rows = (rows - 1) * step.stride + step.kernel
            # Twice what is needed: the rows that stay are moved to the front only every other time.
            kept.append(min(2 * rows, step.x.buffer.height))
        kept.reverse()
        size = sum(n * s.y.buffer.width * s.y.channels for n, s in zip(kept, steps[first:last], strict=True))
        fits = streaming.value_bytes * size <= streaming.share * streaming.cache_bytes
        if fits or (band == 1 and streaming.share == 0):
            window = Buffer(streaming.threads, size, 1, first=first, last=last)
            return Chain(first, last, band, tuple(kept), window)
    return None

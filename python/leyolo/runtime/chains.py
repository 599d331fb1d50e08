"""Which steps run row by row: chains whose maps in between would leave the cache (``csrc/core/stream_model.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import leyolo._C as C
from leyolo.runtime.program import ARENA, CONV2D, DEPTHWISE, UNIT, Buffer, Step

_MOST_STEPS = 16  # of one chain: csrc/core/stream.cpp


@dataclass(frozen=True)
class Streaming:
    """What the decision needs.

    threads      that may share a chain; more of them than the program was made for leave some idle
    cache_bytes  of the second-level cache of a core
    share        of that cache that the windows of a chain may take. A map is streamed if it takes more than twice as
                 much: then it goes out to the shared cache and back, which costs more than moving rows in windows.
                 0: every map is streamed whatever the windows take, for tests; infinite: none is.
    value_bytes  of a value of a map
    """

    threads: int = 1
    cache_bytes: int = 1 << 20
    share: float = 0.75
    value_bytes: int = 4

    def leaves(self, buffer: Buffer) -> bool:
        """Whether the map would not stay in the cache until the next step reads it."""
        return C.stream_leaves(self.value_bytes * buffer.size, self.cache_bytes, self.share)


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
    """The cut into chains that leaves the fewest bytes of large maps outside windows; of equals the shorter chains."""
    best: list[tuple[int, int, list[Chain]]] = [(0, 0, [])]  # for the first n steps: bytes left, steps in chains
    for end in range(1, len(steps) + 1):
        options = []
        for first in range(end - 1, max(-1, end - 1 - _MOST_STEPS), -1):
            if first < end - 1 and not _joined(steps, first, streaming):
                break
            chain = _chain(steps, first, end - 1, streaming) if first < end - 1 else None
            if first < end - 1 and chain is None:
                break
            left, inside, before = best[first]
            if end < len(steps) and _joined(steps, end - 1, streaming):
                left += steps[end - 1].y.buffer.size
            options.append((left, inside + (end - first if chain else 0), before + ([chain] if chain else [])))
        best.append(min(options, key=lambda option: option[:2]))
    return best[-1][2]


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
        and all(slot is None or slot.buffer is not buffer for slot in (following.residual, following.addend))
        and (this.kind == UNIT or streaming.leaves(buffer))
    )


def _chain(steps: Sequence[Step], first: int, last: int, streaming: Streaming) -> Chain | None:
    """The chain with the highest band whose windows fit."""
    width = [step.y.buffer.width * step.y.channels for step in steps[first : last + 1]]
    layers = [
        (step.y.buffer.height, step.kernel, step.stride, streaming.value_bytes * values)
        for step, values in zip(steps[first : last + 1], width, strict=True)
    ]
    band, rows = C.stream_windows(layers, streaming.cache_bytes, streaming.share)
    if band == 0:
        return None
    size = sum(kept * values for kept, values in zip(rows, width[:-1], strict=True))
    return Chain(first, last, band, tuple(rows), Buffer(streaming.threads, size, 1, first=first, last=last))

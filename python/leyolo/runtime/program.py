"""A network as a list of fused steps over one arena; the counterpart of ``csrc/ops/forward/forward.h``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from leyolo.runtime.chains import Chain

CONV2D, DEPTHWISE, MAX_POOL, UPSAMPLE2X, CHAIN, UNIT, BLOCK = range(7)
ARENA, INPUT, OUTPUT, WINDOW = range(4)
_FIELDS = 24
NONE, SILU = 0, 1
_ALIGNMENT = 32  # values: a cache line, or two where they are float32


@dataclass(eq=False)
class Buffer:
    """Memory for one feature map [height, width, channels]; lives from its first to its last step."""

    height: int
    width: int
    channels: int
    space: int = ARENA
    first: int = -1
    last: int = -1
    offset: int = 0

    @property
    def size(self) -> int:
        return -(-self.height * self.width * self.channels // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class Slot:
    """``channels`` channels of a buffer, from ``start``; a whole feature map or a part of a concatenation."""

    buffer: Buffer
    start: int
    channels: int

    @classmethod
    def whole(cls, buffer: Buffer) -> Slot:
        return cls(buffer, 0, buffer.channels)

    @property
    def offset(self) -> int:
        return self.buffer.offset + self.start


@dataclass
class Step:
    kind: int
    x: Slot
    y: Slot
    kernel: int = 0
    stride: int = 0
    padding: int = 0
    activation: int = NONE
    residual: Slot | None = None
    weight: int = -1
    name: str = ""
    addend: Slot | None = None
    tf32: bool = False

    @property
    def slots(self) -> list[Slot]:
        """All that it reads and writes."""
        return [slot for slot in (self.x, self.y, self.residual, self.addend) if slot is not None]

    def row(self, window_rows: int = 0) -> list[int]:
        x, y, r, a = self.x, self.y, self.residual, self.addend
        return [
            self.kind,
            *(x.buffer.space, x.offset, x.buffer.channels, x.buffer.height, x.buffer.width, x.channels),
            *(y.buffer.space, y.offset, y.buffer.channels, y.buffer.height, y.buffer.width, y.channels),
            *(self.kernel, self.stride, self.padding, self.activation),
            *((r.offset, r.buffer.channels) if r else (-1, 0)),
            self.weight,
            window_rows,
            *((a.offset, a.buffer.channels) if a else (-1, 0)),
            int(self.tf32),
        ]


@dataclass(frozen=True)
class Program:
    """What ``forward`` runs: ``steps`` int64 [n, 24], scratch for one image, and the shape of one image's result; and
    the name of every row of ``steps``, for people."""

    steps: NDArray[np.int64]
    arena_size: int
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def launches(self) -> tuple[str, ...]:
        """The name of every kernel that CUDA runs."""
        found, i = [], 0
        while i < len(self.steps):
            found.append(self.names[i])
            i += 1 + (int(self.steps[i, 1]) if self.steps[i, 0] == BLOCK else 0)
        return tuple(found)


@dataclass
class Builder:
    """Collects steps, then places their buffers in the arena so that those alive at the same time never overlap.

    ``tf32``: dense convolutions multiply in TF32 (CUDA, float32 maps)."""

    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    tf32: bool = False

    def buffer(self, height: int, width: int, channels: int) -> Buffer:
        self.buffers.append(Buffer(height, width, channels))
        return self.buffers[-1]

    def _add(self, step: Step) -> Slot:
        for slot in step.slots:
            slot.buffer.first = len(self.steps) if slot.buffer.first < 0 else slot.buffer.first
            slot.buffer.last = len(self.steps)
        self.steps.append(step)
        return step.y

    def _target(self, x: Slot, into: Slot | None, channels: int, stride: int) -> Slot:
        height, width = x.buffer.height, x.buffer.width
        return into or Slot.whole(self.buffer(-(-height // stride), -(-width // stride), channels))

    def conv2d(
        self,
        x: Slot,
        weight: int,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        activation: int = NONE,
        residual: Slot | None = None,
        addend: Slot | None = None,
        into: Slot | None = None,
        name: str = "",
    ) -> Slot:
        """``addend``: half as high and wide as the output, added to the sum before bias and activation."""
        y = self._target(x, into, channels, stride)
        padding = kernel // 2
        step = Step(CONV2D, x, y, kernel, stride, padding, activation, residual, weight, name, addend, self.tf32)
        return self._add(step)

    def depthwise(
        self,
        x: Slot,
        weight: int,
        *,
        kernel: int,
        stride: int = 1,
        activation: int = SILU,
        low: Slot | None = None,
        into: Slot | None = None,
        name: str = "",
    ) -> Slot:
        """``low``: the input's first channels, half as high and wide as ``x``, read at twice their size."""
        y = self._target(x, into, x.channels + (low.channels if low else 0), stride)
        return self._add(Step(DEPTHWISE, x, y, kernel, stride, kernel // 2, activation, None, weight, name, low))

    def max_pool(self, x: Slot, into: Slot, *, kernel: int, name: str = "") -> Slot:
        return self._add(Step(MAX_POOL, x, into, kernel, 1, kernel // 2, name=name))

    def upsample2x(self, x: Slot, into: Slot | None, *, name: str = "") -> Slot:
        y = into or Slot.whole(self.buffer(2 * x.buffer.height, 2 * x.buffer.width, x.channels))
        return self._add(Step(UPSAMPLE2X, x, y, name=name))

    def unit(self, x: Slot, channels: int = 0) -> Slot:
        """The image to what the first layer reads: bytes to 0..1, or, with 4 channels, to bfloat16."""
        y = Slot.whole(self.buffer(x.buffer.height, x.buffer.width, channels or x.channels))
        return self._add(Step(UNIT, x, y, 1, 1, name="image"))

    def finish(
        self, shape: tuple[int, ...], chains: Sequence[Chain] = (), blocks: Sequence[tuple[int, int]] = ()
    ) -> Program:
        """Places the buffers; the steps of ``chains`` (in order) run row by row, those of ``blocks`` (first and last)
        as one kernel."""
        starts = {chain.first: chain for chain in chains}
        lengths = {first: last - first + 1 for first, last in blocks}
        for chain in chains:
            self._into_windows(chain.first, chain.last)
            self.buffers.append(chain.window)
        for first, last in blocks:
            self._into_windows(first, last)
        size = _place(self.buffers)
        rows, names = [], []
        window_rows: dict[int, int] = {}
        for i, step in enumerate(self.steps):
            if i in starts:
                c = starts[i]
                head = [CHAIN, c.last - c.first + 1, c.band, c.window.height, c.window.offset, c.window_size]
                rows.append(head + [0] * (_FIELDS - len(head)))
                names.append(f"chain of {c.last - c.first + 1}")
                window_rows = dict(enumerate(c.rows, c.first))
            if i in lengths:
                rows.append([BLOCK, lengths[i]] + [0] * (_FIELDS - 2))
                names.append(step.name.removesuffix(".expand").removesuffix(".depthwise"))
            rows.append(step.row(window_rows.get(i, 0)))
            names.append(step.name)
        return Program(np.array(rows, np.int64), max(size, 1), shape, tuple(names))

    def _into_windows(self, first: int, last: int) -> None:
        """These steps run side by side: what they read and write lives as long as all of them; maps that nobody else
        reads are in no arena."""
        steps = self.steps[first : last + 1]
        for buffer in [step.y.buffer for step in steps]:
            if buffer.space == ARENA and first <= buffer.first and buffer.last <= last:
                buffer.space = WINDOW
                self.buffers.remove(buffer)
        for step in steps:
            for slot in step.slots:
                slot.buffer.first = min(slot.buffer.first, first)
                slot.buffer.last = max(slot.buffer.last, last)


def _place(buffers: list[Buffer]) -> int:
    """Sets the offsets, largest buffers first, each at the lowest place that is free for its whole life."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.size):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            alive_together = buffer.first <= other.last and other.first <= buffer.last
            if alive_together and other.offset < offset + buffer.size and offset < other.offset + other.size:
                offset = other.offset + other.size
        buffer.offset = offset
        placed.append(buffer)
    return max((b.offset + b.size for b in buffers), default=0)

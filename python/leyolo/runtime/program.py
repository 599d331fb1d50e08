"""A network as a list of fused steps over one arena; the counterpart of ``csrc/ops/forward/forward.h``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CONV2D, DEPTHWISE, MAX_POOL, UPSAMPLE2X = range(4)
ARENA, INPUT, OUTPUT = range(3)
NONE, SILU = 0, 1
_ALIGNMENT = 16  # float32 values: one cache line


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
class _Step:
    kind: int
    x: Slot
    y: Slot
    kernel: int = 0
    stride: int = 0
    padding: int = 0
    activation: int = NONE
    residual: Slot | None = None
    weight: int = -1

    def row(self) -> list[int]:
        x, y, r = self.x, self.y, self.residual
        return [
            self.kind,
            *(x.buffer.space, x.offset, x.buffer.channels, x.buffer.height, x.buffer.width, x.channels),
            *(y.buffer.space, y.offset, y.buffer.channels, y.buffer.height, y.buffer.width, y.channels),
            *(self.kernel, self.stride, self.padding, self.activation),
            *((r.offset, r.buffer.channels) if r else (-1, 0)),
            self.weight,
        ]


@dataclass(frozen=True)
class Program:
    """What ``forward`` runs: ``steps`` int64 [n, 20], scratch for one image, and the shape of one image's result."""

    steps: NDArray[np.int64]
    arena_size: int
    shape: tuple[int, ...]


@dataclass
class Builder:
    """Collects steps, then places their buffers in the arena so that those alive at the same time never overlap."""

    steps: list[_Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)

    def buffer(self, height: int, width: int, channels: int) -> Buffer:
        self.buffers.append(Buffer(height, width, channels))
        return self.buffers[-1]

    def _add(self, step: _Step) -> Slot:
        for slot in (step.x, step.y, step.residual):
            if slot is not None:
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
        into: Slot | None = None,
    ) -> Slot:
        y = self._target(x, into, channels, stride)
        return self._add(_Step(CONV2D, x, y, kernel, stride, kernel // 2, activation, residual, weight))

    def depthwise(
        self, x: Slot, weight: int, *, kernel: int, stride: int = 1, activation: int = SILU, into: Slot | None = None
    ) -> Slot:
        y = self._target(x, into, x.channels, stride)
        return self._add(_Step(DEPTHWISE, x, y, kernel, stride, kernel // 2, activation, None, weight))

    def max_pool(self, x: Slot, into: Slot, *, kernel: int) -> Slot:
        return self._add(_Step(MAX_POOL, x, into, kernel, 1, kernel // 2))

    def upsample2x(self, x: Slot, into: Slot | None) -> Slot:
        y = into or Slot.whole(self.buffer(2 * x.buffer.height, 2 * x.buffer.width, x.channels))
        return self._add(_Step(UPSAMPLE2X, x, y))

    def finish(self, shape: tuple[int, ...]) -> Program:
        size = _place(self.buffers)
        steps = np.array([step.row() for step in self.steps], np.int64)
        return Program(steps, max(size, 1), shape)


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

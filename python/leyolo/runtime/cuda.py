"""What the CUDA twin of ``forward`` wants: weights in its order, and which steps are one kernel. Torch is not imported
here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import leyolo._C as C
from leyolo.runtime.program import ARENA, CONV2D, DEPTHWISE, INPUT, MAX_POOL, NONE, OUTPUT, UPSAMPLE2X, Step

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gpu:
    """``shared_bytes`` of shared memory that a block of threads may ask for; the default is what every GPU that we
    compile for gives. ``fuse``: whole bottlenecks are one kernel each, instead of a kernel per convolution."""

    shared_bytes: int = 99 << 10
    fuse: bool = True


def in_type(values: Floats, dtype: str) -> NDArray[Any]:
    """``values`` rounded to ``dtype``, ties to even; bfloat16 as its bits, since numpy has no such type."""
    if dtype == "float32":
        return np.ascontiguousarray(values, np.float32)
    if dtype == "float16":
        return values.astype(np.float16)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    if dtype == "tf32":
        return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~np.uint32(0x1FFF)).view(np.float32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _packed(bias: Floats, rows: Floats, dtype: str) -> Floats:
    """Bias in float32, padded to fours, and ``rows``, padded to eights; as float32 words."""
    bias = np.pad(np.asarray(bias, np.float32), (0, -len(bias) % 4))
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    return np.concatenate([bias, in_type(rows, dtype).reshape(-1).view(np.float32)])


def pack_conv2d(weight: Floats, bias: Floats, dtype: str) -> Floats:
    """[O, C, k, k] and [O], as ``csrc/ops/conv2d/conv2d_cuda.h`` has it."""
    return _packed(bias, weight.transpose(0, 2, 3, 1).reshape(len(weight), -1), dtype)


def pack_depthwise(weight: Floats, bias: Floats, dtype: str) -> Floats:
    """[C, 1, k, k] and [C], as ``csrc/ops/depthwise_conv2d/depthwise_images.h`` has it; tf32 is float32 there."""
    return _packed(bias, weight.reshape(len(weight), -1).T, "float32" if dtype == "tf32" else dtype)


def blocks(steps: Sequence[Step], gpu: Gpu, dtype: str) -> list[tuple[int, int]]:
    """First and last step of all that is one kernel together: inverted bottlenecks, the head, chained pools."""
    found: list[tuple[int, int]] = []
    half = dtype in ("float16", "bfloat16")
    i = 0
    while gpu.fuse and i < len(steps):
        length = _pools(steps, i, 8 if half else 4)
        if not length and half:
            length = _head(steps, i, gpu) or _bottleneck(steps, i, gpu)
        if length:
            found.append((i, i + length - 1))
        i += length or 1
    return found


def _pools(steps: Sequence[Step], i: int, width: int) -> int:
    """Three pools of kernel 5, each of the one before it; ``width``: values of a vector."""
    chain = steps[i : i + 3]
    fits = len(chain) == 3 and all(
        (s.kind, s.kernel, s.x.buffer.space) == (MAX_POOL, 5, ARENA) and _whole_vectors(s.x, width) for s in chain
    )
    if not fits or chain[0].y != chain[1].x or chain[1].y != chain[2].x:
        return 0
    one_map = chain[0].x.buffer is chain[0].y.buffer is chain[2].y.buffer
    first, second, third = (s.y.start for s in chain)
    return 3 if one_map and third - second == second - first else 0


def _head(steps: Sequence[Step], i: int, gpu: Gpu) -> int:
    """All levels of the leyolo head that follow one another from step i."""
    length = 0
    while length < 4 * _LEVEL and _level(steps, i + length, gpu):
        length += _LEVEL
    return length


_LEVEL = 5  # steps: 1x1, depthwise, depthwise, 1x1 of the box branch, 1x1 of the class branch


def _level(steps: Sequence[Step], i: int, gpu: Gpu) -> bool:
    if len(steps) < i + _LEVEL:
        return False
    first, *filters, box, cls = steps[i : i + _LEVEL]
    return (
        all(_pointwise(s) for s in (first, box, cls))
        and all((s.kind, s.kernel, s.stride, s.activation) == (DEPTHWISE, 3, 1, first.activation) for s in filters)
        and _feeds(steps, i)
        and _feeds(steps, i + 1)
        and box.x.buffer is cls.x.buffer is filters[1].y.buffer
        and cls.x.buffer.last == i + _LEVEL - 1
        and first.x.buffer.space == ARENA
        and first.residual is None
        and _whole_vectors(first.x)
        and all(
            s.activation == NONE
            and s.residual is None
            and s.y.buffer.space == OUTPUT
            and s.x.start % 8 == 0
            and C.head_fits(first.x.channels, s.x.channels, s.y.channels, gpu.shared_bytes)
            for s in (box, cls)
        )
    )


def _bottleneck(steps: Sequence[Step], i: int, gpu: Gpu) -> int:
    """[An upsampling, or a convolution of the image,] [1x1 convolution,] depthwise, 1x1 convolution."""
    step = steps[i]
    if step.kind == UPSAMPLE2X and i + 1 < len(steps):
        x, y = steps[i + 1].x, step.y
        first_channels = x.buffer is y.buffer and x.start == y.start and x.channels >= y.channels
        length = _body(steps, i + 1, gpu) if first_channels and _whole_vectors(step.x) and _whole_vectors(y) else 0
        later = [s for t in steps[i + 2 :] for s in t.slots if s.buffer is y.buffer]
        alone = all(s.start >= y.start + y.channels or s.start + s.channels <= y.start for s in later)
        # Somebody else writes the other channels before: the map does not begin and end with this block.
        alone = alone and y.buffer.first < i
        return 1 + length if length and alone and steps[i + length].residual is None else 0
    if step.kind == CONV2D and step.x.buffer.space == INPUT:
        length = _body(steps, i + 1, gpu, step) if _feeds(steps, i) else 0
        return 1 + length if length == 3 else 0
    return _body(steps, i, gpu)


def _body(steps: Sequence[Step], i: int, gpu: Gpu, stem: Step | None = None) -> int:
    """A bottleneck whose first step is i; ``stem``: the convolution in front of it that is to be part of its kernel."""
    expands = i + 1 < len(steps) and _pointwise(steps[i]) and _feeds(steps, i) and steps[i].residual is None
    at = i + 1 if expands else i
    if len(steps) < at + 2 or steps[at].kind != DEPTHWISE or not _feeds(steps, at):
        return 0
    first, filtering, last = steps[i], steps[at], steps[at + 1]
    shape = (first.x.channels, filtering.x.channels, last.y.channels, filtering.kernel, filtering.stride)
    given = (stem.kernel, stem.x.channels) if stem else (0, 0)
    fits = (
        _pointwise(last)
        and last.activation == NONE
        and first.activation == filtering.activation == (stem or first).activation
        and first.x.buffer.space == last.y.buffer.space == ARENA
        and all(s is None or _whole_vectors(s) for s in (first.x, last.y, last.residual))
        and C.bottleneck_fits(*shape, expands, gpu.shared_bytes, *given)
    )
    return at + 2 - i if fits else 0


def _pointwise(step: Step) -> bool:
    return step.kind == CONV2D and step.kernel == 1 and step.stride == 1


def _feeds(steps: Sequence[Step], i: int) -> bool:
    """Whether all of step i's output goes into step i + 1, and nowhere else."""
    if i + 1 >= len(steps):
        return False
    y = steps[i].y
    return (
        steps[i + 1].x == y
        and y.buffer.space == ARENA
        and y.channels == y.buffer.channels
        and (y.buffer.first, y.buffer.last) == (i, i + 1)
        and (steps[i + 1].residual is None or steps[i + 1].residual.buffer is not y.buffer)  # type: ignore[union-attr]
    )


def _whole_vectors(slot: Any, width: int = 8) -> bool:
    return bool(slot.start % width == slot.channels % width == slot.buffer.channels % width == 0)

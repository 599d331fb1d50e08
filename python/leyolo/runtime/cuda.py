"""What the CUDA twin of ``forward`` wants: weights in its order, and which steps are one kernel. Torch is not imported
here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import leyolo._C as C
from leyolo.runtime.program import ARENA, CONV2D, DEPTHWISE, NONE, Step

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gpu:
    """``shared_bytes`` of shared memory that a block of threads may ask for; the default is what every GPU that we
    compile for gives. ``fuse``: whole bottlenecks are one kernel each, instead of a kernel per convolution."""

    shared_bytes: int = 99 << 10
    fuse: bool = True


def in_type(values: Floats, dtype: str) -> NDArray[Any]:
    """``values`` rounded to ``dtype``; bfloat16 as its bits, since numpy has no such type."""
    if dtype == "float32":
        return np.ascontiguousarray(values, np.float32)
    if dtype == "float16":
        return values.astype(np.float16)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
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
    """[C, 1, k, k] and [C], as ``csrc/ops/depthwise_conv2d/depthwise_images.h`` has it."""
    return _packed(bias, weight.reshape(len(weight), -1).T, dtype)


def blocks(steps: Sequence[Step], gpu: Gpu, dtype: str) -> list[tuple[int, int]]:
    """First and last step of every inverted bottleneck that is one kernel."""
    found: list[tuple[int, int]] = []
    if dtype == "float32" or not gpu.fuse:
        return found
    for i, step in enumerate(steps[:-1]):
        if step.kind != DEPTHWISE or not _feeds(steps, i):
            continue
        expands = i > 0 and _pointwise(steps[i - 1]) and _feeds(steps, i - 1)
        expands = expands and steps[i - 1].activation == step.activation and steps[i - 1].residual is None
        first, last = steps[i - 1] if expands else step, steps[i + 1]
        shape = (first.x.channels, step.x.channels, last.y.channels, step.kernel, step.stride)
        if (
            _pointwise(last)
            and last.activation == NONE
            and first.x.buffer.space == last.y.buffer.space == ARENA
            and all(s is None or _whole_vectors(s) for s in (first.x, last.y, last.residual))
            and C.bottleneck_fits(*shape, expands, gpu.shared_bytes)
        ):
            found.append((i - 1 if expands else i, i + 1))
    return found


def _pointwise(step: Step) -> bool:
    return step.kind == CONV2D and step.kernel == 1 and step.stride == 1


def _feeds(steps: Sequence[Step], i: int) -> bool:
    """Whether all of step i's output goes into step i + 1, and nowhere else."""
    y = steps[i].y
    return (
        steps[i + 1].x == y
        and y.buffer.space == ARENA
        and y.channels == y.buffer.channels
        and (y.buffer.first, y.buffer.last) == (i, i + 1)
        and (steps[i + 1].residual is None or steps[i + 1].residual.buffer is not y.buffer)  # type: ignore[union-attr]
    )


def _whole_vectors(slot: Any) -> bool:
    return bool(slot.start % 8 == 0 and slot.buffer.channels % 8 == 0)

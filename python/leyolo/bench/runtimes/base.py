"""What a runtime is to the benchmarks: a function that loads a network, and what has to be installed for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from leyolo.weights import Checkpoint

Array = NDArray[Any]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Job:
    """A network to load: its weights, the shape [B, H, W, 3] of its input, the threads it may use."""

    checkpoint: Checkpoint
    shape: tuple[int, int, int, int]
    threads: int


@dataclass(frozen=True)
class Network:
    """A loaded network.

    ``forward`` takes float32 in 0..1 in the ``layout`` that suits the runtime, C-contiguous. It gives logits [B, A, K],
    or what a foreign network ends with: box map and class map of every level, each [B, channels, h, w], level by level.
    Those are spared the copies that would bring them into one array.
    """

    forward: Callable[[Array], Array | Sequence[Array]]
    layout: Literal["NCHW", "NHWC"]
    version: str


Boxes = tuple[Array, dict[str, float]]
"""Boxes [n, 6] (xyxy in pixels of the picture, score, class), best first, and the seconds that every stage took."""


@dataclass(frozen=True)
class Pipeline:
    """A loaded way from an encoded picture to boxes."""

    detect: Callable[[bytes], Boxes]
    version: str


Loaded = TypeVar("Loaded", Network, Pipeline)


@dataclass(frozen=True)
class Runtime(Generic[Loaded]):
    """How to load a network or a pipeline, and when.

    packages  what pip installs for it; named where something is missing
    usual     whether it runs when nobody asks for it by name
    tuned     whether glibc's allocator is told to keep freed blocks: page-faulting them in again at every call costs
              torch up to half its time
    """

    load: Callable[[Job], Loaded]
    packages: tuple[str, ...] = ()
    dtype: Precision = "float32"
    usual: bool = True
    tuned: bool = True


class NotHereError(Exception):
    """This machine or this model cannot run the runtime; the text says why."""


def joined(output: Array | Sequence[Array]) -> Array:
    """What a network gave as logits [B, A, K]: levels one after the other, each row by row; box channels first."""
    if isinstance(output, np.ndarray):
        return output
    rows = [each.transpose(0, 2, 3, 1).reshape(len(each), -1, each.shape[1]) for each in output]
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return np.concatenate([np.concatenate(pair, 2) for pair in pairs], 1)

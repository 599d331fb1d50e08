"""Runs a model on numpy arrays, without torch."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import leyolo._C as C
from leyolo.geometry import anchor_points
from leyolo.models.config import lookup
from leyolo.runtime.chains import Streaming
from leyolo.runtime.dtype import usable
from leyolo.runtime.fold import fold
from leyolo.runtime.lower import Network
from leyolo.runtime.program import Program

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint

Pixels = NDArray[np.float32] | NDArray[np.uint8]
Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]

_local = threading.local()
_MOST_KEPT = 256 << 20


def scratch(size: int, dtype: DTypeLike = np.float32, name: str = "arena") -> NDArray[Any]:
    """This thread's memory called ``name``, of at least ``size`` values, on a cache line; kept, since fresh memory
    costs page faults at every call, unless it is very large."""
    bytes_asked = size * np.dtype(dtype).itemsize
    memory: NDArray[np.uint8] | None = getattr(_local, name, None)
    if memory is None or memory.size < bytes_asked:
        raw = np.empty(bytes_asked + 64, np.uint8)
        start = -raw.ctypes.data % 64
        memory = raw[start : start + bytes_asked]
        if bytes_asked <= _MOST_KEPT:
            setattr(_local, name, memory)
    return memory[:bytes_asked].view(dtype)


class Engine:
    """A folded and packed model on ``leyolo._C``.

    ``dtype``: of weights and maps, "float32" or "bfloat16" ("bf16"); sums and results are always float32. Where the CPU
    has no dot product for bfloat16 it runs in float32, with a warning.

    Threads: ``leyolo._C.set_num_threads``. One engine may be called from several threads at once: programs are shared,
    scratch memory is per thread.
    """

    input_dtype = "uint8"
    """What it takes best: pixels as they are, a quarter of the memory."""

    def __init__(self, checkpoint: Checkpoint, *, dtype: str = "float32", share: float = Streaming.share) -> None:
        self.config = lookup(checkpoint.size)
        self.dtype = usable(dtype)
        folded = fold(checkpoint.state)
        self.network = Network(
            self.config, checkpoint.head, checkpoint.num_classes, folded, dtype=self.dtype, share=share
        )

    def program(
        self, height: int, width: int, *, images: int = 1, from_bytes: bool = False, features: bool = False
    ) -> Program:
        """The steps for ``images`` of this size at a time, built once for every number of threads."""
        threads = C.num_threads()
        # Images side by side have a thread each.
        return self.network.program(
            height, width, threads=1 if images >= threads else threads, from_bytes=from_bytes, features=features
        )

    def __call__(self, x: Pixels, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Logits of a batch.

        Args:
            x: [B, H, W, 3], RGB, C-contiguous; float32 in 0..1 or uint8 in 0..255; H and W multiples of 32.
            out: float32 [B, A, K] to write into, or None.

        Returns:
            float32 [B, A, K]: K = 4 * reg_max + C (leyolo head), or 4 + 1 + C (yolox head).
        """
        _check(x)
        program = self.program(x.shape[1], x.shape[2], images=len(x), from_bytes=x.dtype == np.uint8)
        arena = self._arena(program, len(x))
        result: NDArray[np.float32] = C.forward(
            x, program.steps, self.network.weights, arena, program.arena_size, list(program.shape), out
        )
        return result

    def detect(self, x: Pixels, *, score_threshold: float = 0.25, multi_label: bool = False) -> Candidates:
        """Candidates of a batch (leyolo head only): what ``detect_decode`` makes of the logits; in float32 to the bit.

        The last box layer runs only where there is a candidate; the logits as a whole never exist.

        Args:
            x: as for a call.
            score_threshold, multi_label: as for :func:`leyolo.ops.detect_decode`.

        Returns:
            boxes float32 [B, K, 4] xyxy in pixels of ``x``, scores float32 [B, K], labels int64 [B, K], counts int64
            [B], with no count above K; what lies behind the counts is undefined.
        """
        _check(x)
        together = C.num_threads()  # images at a time: the memory of a large batch would not come back
        parts = [
            self._detect(x[first : first + together], score_threshold, multi_label)
            for first in range(0, max(1, len(x)), together)
        ]
        if len(parts) == 1:
            return parts[0]
        most = max(int(counts.max()) for *_, counts in parts)
        boxes, scores, labels = (np.concatenate([part[i][:, :most] for part in parts]) for i in range(3))
        return boxes, scores, labels, np.concatenate([counts for *_, counts in parts])

    def _arena(self, program: Program, images: int) -> NDArray[Any]:
        """Scratch for a batch: several images run side by side, an arena each."""
        size = program.arena_size * max(1, min(images, C.num_threads()))
        return scratch(size, np.uint16 if self.dtype == "bfloat16" else np.float32)

    def _detect(self, x: Pixels, score_threshold: float, multi_label: bool) -> Candidates:
        batch, height, width, _ = x.shape
        program = self.program(height, width, images=batch, from_bytes=x.dtype == np.uint8, features=True)
        centers, strides = _anchors(height, width, self.config.strides)
        size = program.shape[0]
        arena, out = self._arena(program, batch), scratch(batch * size, name="features").reshape(batch, size)
        C.forward(x, program.steps, self.network.weights, arena, program.arena_size, [size], out)
        anchors = len(strides)
        features, classes = np.split(out, [anchors * self.config.box_width], axis=1)
        return C.detect_decode_features(
            classes.reshape(batch, anchors, self.network.num_classes),
            features.reshape(batch, anchors, self.config.box_width),
            self.network.box_layers,
            [(height // stride) * (width // stride) for stride in self.config.strides],
            centers,
            strides,
            reg_max=self.config.reg_max,
            score_threshold=score_threshold,
            multi_label=multi_label,
        )


_anchors = lru_cache(maxsize=32)(anchor_points)


def _check(x: NDArray[Any]) -> None:
    if x.ndim != 4 or x.shape[3] != 3:
        raise ValueError(f"x must be [B, H, W, 3], got {list(x.shape)}")

"""Runs a model on numpy arrays, without torch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import leyolo._C as C
from leyolo.models.config import lookup
from leyolo.runtime.chains import Streaming
from leyolo.runtime.dtype import usable
from leyolo.runtime.fold import fold
from leyolo.runtime.lower import Network
from leyolo.runtime.program import Program

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint


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

    def __init__(self, checkpoint: Checkpoint, *, dtype: str = "float32", share: float = Streaming.share) -> None:
        self.config = lookup(checkpoint.size)
        self.dtype = usable(dtype)
        folded = fold(checkpoint.state)
        self.network = Network(
            self.config, checkpoint.head, checkpoint.num_classes, folded, dtype=self.dtype, share=share
        )

    def program(self, height: int, width: int, *, images: int = 1, from_bytes: bool = False) -> Program:
        """The steps for ``images`` of this size at a time, built once for every number of threads."""
        threads = C.num_threads()
        # Images side by side have a thread each.
        return self.network.program(height, width, threads=1 if images >= threads else threads, from_bytes=from_bytes)

    def __call__(
        self, x: NDArray[np.float32] | NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Logits of a batch.

        Args:
            x: [B, H, W, 3], RGB, C-contiguous; float32 in 0..1 or uint8 in 0..255; H and W multiples of 32.
            out: float32 [B, A, K] to write into, or None.

        Returns:
            float32 [B, A, K]: K = 4 * reg_max + C (leyolo head), or 4 + 1 + C (yolox head).
        """
        if x.ndim != 4 or x.shape[3] != 3:
            raise ValueError(f"x must be [B, H, W, 3], got {list(x.shape)}")
        program = self.program(x.shape[1], x.shape[2], images=len(x), from_bytes=x.dtype == np.uint8)
        # Several images run side by side, an arena each.
        arena = scratch(
            program.arena_size * max(1, min(len(x), C.num_threads())),
            np.uint16 if self.dtype == "bfloat16" else np.float32,
        )
        result: NDArray[np.float32] = C.forward(
            x, program.steps, self.network.weights, arena, program.arena_size, list(program.shape), out
        )
        return result

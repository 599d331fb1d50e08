"""Runs a model on numpy arrays, without torch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import leyolo._C as C
from leyolo.models.config import lookup
from leyolo.runtime.chains import Streaming
from leyolo.runtime.fold import fold
from leyolo.runtime.lower import Network
from leyolo.runtime.program import Program

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint


_local = threading.local()


def scratch(size: int) -> NDArray[np.float32]:
    """This thread's scratch memory of at least ``size`` values, on a cache line; kept, since fresh memory costs page
    faults at every call."""
    memory: NDArray[np.float32] | None = getattr(_local, "memory", None)
    if memory is None or memory.size < size:
        raw = np.empty(size + 16, np.float32)
        start = -(raw.ctypes.data // 4) % 16
        memory = _local.memory = raw[start : start + size]
    return memory


class Engine:
    """A folded and packed model on ``leyolo._C``.

    Threads: ``leyolo._C.set_num_threads``. One engine may be called from several threads at once: programs are shared,
    scratch memory is per thread.
    """

    def __init__(self, checkpoint: Checkpoint, *, share: float = Streaming.share) -> None:
        self.config = lookup(checkpoint.size)
        folded = fold(checkpoint.state)
        self.network = Network(self.config, checkpoint.head, checkpoint.num_classes, folded, share=share)

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
        arena = scratch(program.arena_size * max(1, min(len(x), C.num_threads())))
        result: NDArray[np.float32] = C.forward(
            x, program.steps, self.network.weights, arena, program.arena_size, list(program.shape), out
        )
        return result

"""The fused network on torch tensors: BatchNorm folded, one operator for the whole forward pass."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from leyolo.models.config import lookup
from leyolo.ops.forward import forward
from leyolo.runtime.dtype import usable
from leyolo.runtime.fold import fold
from leyolo.runtime.lower import Network

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint

_local = threading.local()
_Run = tuple[Tensor, int, list[int]]  # steps, values of the arena, shape of one image's result


def _scratch(size: int, dtype: torch.dtype, images: int) -> Tensor:
    """This thread's scratch memory for images side by side, ``size`` values each; kept, since fresh memory costs page
    faults at every call."""
    if torch.compiler.is_compiling():
        return torch.empty(size, dtype=dtype)
    size *= max(1, min(images, torch.get_num_threads()))
    memory: Tensor | None = getattr(_local, str(dtype), None)
    if memory is None or memory.numel() < size:
        memory = torch.empty(size, dtype=dtype)
        setattr(_local, str(dtype), memory)
    return memory


class FusedNetwork(nn.Module):
    """Inference on the CPU, on torch's threads; several threads may call one instance.

    ``dtype``: of weights and maps, as for :class:`leyolo.runtime.Engine`; input and logits are float32.

    The packed weights fit this machine's kernels only: save the checkpoint, not this module's state. Under
    ``torch.compile`` an input size has to be prepared first (:meth:`prepare`).
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str = "float32") -> None:
        super().__init__()
        config, dtype = lookup(checkpoint.size), usable(dtype)
        self._maps = getattr(torch, dtype)
        folded = fold(checkpoint.state)
        self._network = Network(config, checkpoint.head, checkpoint.num_classes, folded, dtype=dtype)
        self._weights = [torch.from_numpy(w) for w in self._network.weights]
        self._prepared: dict[tuple[int, int], _Run] = {}
        self._runs: dict[tuple[int, int, int], _Run] = {}

    def prepare(self, height: int, width: int) -> None:
        """Builds the program for images of ``height`` x ``width`` on as many threads as torch has now."""
        self._prepared[height, width] = self._run(height, width)

    def _run(self, height: int, width: int) -> _Run:
        threads = torch.get_num_threads()  # one thread of the program may have others than another
        if (height, width, threads) not in self._runs:
            program = self._network.program(height, width, threads=threads)
            run = torch.from_numpy(program.steps), program.arena_size, list(program.shape)
            self._runs[height, width, threads] = run
        return self._runs[height, width, threads]

    def forward(self, x: Tensor) -> Tensor:
        """``x`` float32 [B, 3, H, W], RGB in 0..1, H and W multiples of 32 -> logits float32 [B, A, K]."""
        if x.dim() != 4 or x.shape[1] != 3 or x.dtype != torch.float32 or x.device.type != "cpu":
            raise ValueError(f"x must be float32 [B, 3, H, W] on the CPU, got {x.dtype} {list(x.shape)} on {x.device}")
        height, width = x.shape[2:]
        compiling = torch.compiler.is_compiling()
        program, arena_size, shape = self._prepared[height, width] if compiling else self._run(height, width)
        x = x.contiguous(memory_format=torch.channels_last)
        return forward(x.detach(), program, self._weights, _scratch(arena_size, self._maps, len(x)), arena_size, shape)

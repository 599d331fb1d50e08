"""The fused network on torch tensors: BatchNorm folded, one operator for the whole forward pass."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from leyolo.models.config import lookup
from leyolo.ops._library import on_cuda
from leyolo.ops.forward import forward
from leyolo.runtime.cuda import Gpu
from leyolo.runtime.dtype import Dtype, usable
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


def _gpu(device: torch.device) -> Gpu:
    if device.type != "cuda":
        return Gpu()
    properties = torch.cuda.get_device_properties(device)
    return Gpu(getattr(properties, "shared_memory_per_block_optin", Gpu.shared_bytes))


class FusedNetwork(nn.Module):
    """Inference: on the CPU on torch's threads, on a GPU on the current stream, where it can be captured in a CUDA
    graph. Several threads may call one instance.

    ``dtype``: of weights and maps. CPU: as for :class:`leyolo.runtime.Engine`, float32 by default; input float32.
    CUDA: float16 by default, bfloat16, float32, or tf32 (float32 maps; dense convolutions multiply in TF32, 10 bits of
    mantissa, on tensor cores); input in the type of the maps, float32 or uint8 (0..255). Sums and logits are float32.

    The packed weights fit this machine's kernels only: save the checkpoint, not this module's state; the device is
    chosen here. Under ``torch.compile`` an input size has to be prepared first (:meth:`prepare`).

    ``gpu``: other limits than those of the device, for tests and benchmarks.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: str | None = None,
        *,
        device: str | torch.device = "cpu",
        gpu: Gpu | None = None,
    ) -> None:
        super().__init__()
        self._device = torch.device(device)
        self._cuda = on_cuda(self._device)
        config, chosen = lookup(checkpoint.size), self._dtype(dtype)
        self._maps = torch.float32 if chosen == "tf32" else getattr(torch, chosen)
        folded = fold(checkpoint.state)
        if self._cuda and gpu is None:
            gpu = _gpu(self._device)
        self._network = Network(config, checkpoint.head, checkpoint.num_classes, folded, dtype=chosen, gpu=gpu)
        self._weights = [torch.from_numpy(w).to(self._device) for w in self._network.weights]
        self._inputs = {torch.float32, torch.uint8, self._maps} if self._cuda else {torch.float32}
        self._prepared: dict[tuple[int, int], _Run] = {}
        self._runs: dict[tuple[int, int, int], _Run] = {}

    def _dtype(self, dtype: str | None) -> Dtype:
        if not self._cuda:
            return usable(dtype or "float32", stacklevel=4)
        names: dict[str | None, Dtype] = {None: "float16", "bf16": "bfloat16"}
        names |= {"float16": "float16", "bfloat16": "bfloat16", "float32": "float32", "tf32": "tf32"}
        if dtype not in names:
            raise ValueError(f"dtype must be float16, bfloat16 (bf16), float32 or tf32, got {dtype!r}")
        return names[dtype]

    def prepare(self, height: int, width: int) -> None:
        """Builds the program for images of ``height`` x ``width`` on as many threads as torch has now."""
        self._prepared[height, width] = self._run(height, width)

    def _run(self, height: int, width: int) -> _Run:
        # One thread of the program may have other threads than another.
        threads = 1 if self._cuda else torch.get_num_threads()
        if (height, width, threads) not in self._runs:
            program = self._network.program(height, width, threads=threads)
            run = torch.from_numpy(program.steps), program.arena_size, list(program.shape)
            self._runs[height, width, threads] = run
        return self._runs[height, width, threads]

    def launches(self, height: int, width: int) -> int:
        """Kernels of one forward pass on CUDA."""
        return len(self._network.program(height, width).launches)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, 3, H, W], RGB in 0..1 (uint8: 0..255), H and W multiples of 32 -> logits float32 [B, A, K]."""
        if x.dim() != 4 or x.shape[1] != 3 or x.dtype not in self._inputs or x.device.type != self._device.type:
            kinds = " or ".join(sorted(str(t).removeprefix("torch.") for t in self._inputs))
            where = "the CPU" if self._device.type == "cpu" else str(self._device)
            raise ValueError(f"x must be {kinds} [B, 3, H, W] on {where}, got {x.dtype} {list(x.shape)} on {x.device}")
        height, width = x.shape[2:]
        compiling = torch.compiler.is_compiling()
        program, arena_size, shape = self._prepared[height, width] if compiling else self._run(height, width)
        x = x.contiguous(memory_format=torch.channels_last).detach()
        if self._cuda:  # an arena for every image: torch's allocator keeps the memory
            arena = torch.empty(arena_size * max(1, len(x)), dtype=self._maps, device=x.device)
        else:
            arena = _scratch(arena_size, self._maps, len(x))
        return forward(x, program, self._weights, arena, arena_size, shape)

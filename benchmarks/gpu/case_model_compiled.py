"""The whole network beside torch.compile, whose search over kernels takes minutes: run.py has it last."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from case_model import checkpoint, module

from case import OURS, GpuCase
from leyolo.models.fused import FusedNetwork
from leyolo.models.transfer import to_torch


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    """The largest batch first. Not in the quick pass, and not on a CPU, where there is no search."""
    if quick or device != "cuda":
        return
    weights = checkpoint()
    ours = FusedNetwork(weights, "float16", device=device)
    folded = to_torch(weights).eval().to(device, torch.float16, memory_format=torch.channels_last)
    folded.fold()
    for images in (64, 1, 8, 32):
        x = torch.rand(images, 3, 640, 640, device=device, dtype=torch.float16)
        x = x.contiguous(memory_format=torch.channels_last)
        compiled = torch.compile(folded, mode="max-autotune-no-cudagraphs", dynamic=False)
        yield GpuCase(
            name=f"nano forward {images} x 640, compiled",
            contestants={OURS: module(ours, x), "torch.compile": module(compiled, x)},
            tolerance=0.03 * float(module(folded, x[:1])().abs().max()),
        )

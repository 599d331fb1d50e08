"""Batch norm with SiLU in training on the depthwise maps of LeYOLO-nano, batch 64, fp16 channels_last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from case import OURS, GpuCase
from leyolo.ops.batch_norm_act import batch_norm_act, batch_norm_act_reference

MAPS = [(16, 320), (96, 80), (96, 40), (192, 40), (192, 20), (576, 20)]


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    batch, divisor, dtype = (64, 1, torch.float16) if device == "cuda" else (2, 20, torch.float32)
    for channels, full in MAPS:
        side = full // divisor
        x, upstream = (
            torch.randn(batch, channels, side, side, device=device)
            .to(dtype)
            .contiguous(memory_format=torch.channels_last)
            for _ in range(2)
        )
        weight, bias = (torch.rand(channels, device=device).requires_grad_() for _ in range(2))
        options: dict[str, Any] = {"training": True, "eps": 1e-3, "activation": "silu"}
        size = x.numel() * x.element_size()
        both = ((OURS, batch_norm_act), ("torch", batch_norm_act_reference))
        yield GpuCase(
            name=f"batch norm + SiLU forward {batch} x C{channels} {side}x{side}",
            contestants={n: lambda f=f, x=x, w=weight, b=bias, o=options: f(x, w, b, **o).detach() for n, f in both},
            bytes=3 * size,
            tolerance=2e-2,
            headline=channels == 192,
        )
        leaves = (x.requires_grad_(), weight, bias)
        contestants = {}
        for n, f in both:
            y = f(*leaves, **options)
            contestants[n] = lambda y=y, leaves=leaves, g=upstream: torch.autograd.grad(y, leaves, g, retain_graph=True)
        yield GpuCase(
            name=f"batch norm + SiLU backward {batch} x C{channels} {side}x{side}",
            contestants=contestants,
            bytes=5 * size,
            headline=channels == 192,
        )

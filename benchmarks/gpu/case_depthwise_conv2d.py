"""Every depthwise convolution of LeYOLO-nano with SiLU, batch 64, fp16 channels_last: forward, and its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from case import OURS, GpuCase
from leyolo.bench.ops.modules import distinct
from leyolo.models.cost import ConvCost
from leyolo.ops.depthwise_conv2d import depthwise_conv2d, depthwise_conv2d_reference


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    batch, imgsz, dtype = (64, 640, torch.float16) if device == "cuda" else (1, 32, torch.float32)

    def name(c: ConvCost) -> str | None:
        conv = c.convolution
        kind = f"C{conv.out_channels} k{conv.kernel}s{conv.stride} to {imgsz // conv.reduction}"
        return kind if conv.kind == "depthwise" else None

    for kind, same in distinct("n", imgsz, name).items():
        conv = same[0].convolution
        channels, out = conv.out_channels, max(1, imgsz // conv.reduction)
        if device == "cpu" and channels > 64:  # a rehearsal
            continue
        side = out * conv.stride

        def map_of(n: int, channels: int = channels) -> Tensor:
            t = torch.randn(batch, channels, n, n, device=device).to(dtype)
            return t.contiguous(memory_format=torch.channels_last)

        x, upstream = map_of(side), map_of(out)
        weight = torch.randn(channels, 1, conv.kernel, conv.kernel, device=device).to(dtype) / conv.kernel
        bias = torch.randn(channels, device=device).to(dtype)
        options: dict[str, Any] = {"stride": conv.stride, "padding": conv.kernel // 2}
        count = batch * channels * x.element_size()
        headline = kind.startswith(("C96 k5s1", "C192 k5s1"))
        yield GpuCase(
            name=f"depthwise forward {batch} x {kind}",
            contestants={
                n: lambda f=f, x=x, w=weight, b=bias, o=options: f(x, w, b, activation="silu", **o)
                for n, f in ((OURS, depthwise_conv2d), ("torch", depthwise_conv2d_reference))
            },
            bytes=count * (side**2 + out**2),
            tolerance=2e-2,
            headline=headline,
        )
        leaves = [t.requires_grad_() for t in (x, weight, bias)]
        contestants = {}
        for n, f in ((OURS, depthwise_conv2d), ("torch", depthwise_conv2d_reference)):
            y = f(*leaves, **options)
            contestants[n] = lambda y=y, leaves=leaves, g=upstream: torch.autograd.grad(y, leaves, g, retain_graph=True)
        yield GpuCase(
            name=f"depthwise backward {batch} x {kind}",
            contestants=contestants,
            bytes=count * (2 * side**2 + out**2),
            headline=headline,
        )

"""Batch norm with SiLU in training, forward and backward, on the depthwise maps of a network: 16 images of half the
side, as one trains."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import distinct
from leyolo.models.cost import ConvCost
from leyolo.ops.batch_norm_act import batch_norm_act, batch_norm_act_reference

TOTAL = "BN + SiLU of all depthwise maps, forward and backward"
BATCH = 16


def cases(size: str, imgsz: int) -> list[Case]:
    """One for each distinct shape, with how often it occurs."""
    side = imgsz // 2

    def name(c: ConvCost) -> str | None:
        conv = c.convolution
        return f"C{conv.out_channels} {side // conv.reduction}" if conv.kind == "depthwise" else None

    found = []
    for same in distinct(size, imgsz, name).values():
        conv = same[0].convolution
        pixels = max(1, side // conv.reduction)
        found.append(
            Case(
                op="batch_norm_act",
                name=f"{BATCH} x C{conv.out_channels} {pixels}x{pixels}",
                build=partial(_build, conv.out_channels, pixels),
                bytes=4 * 8 * BATCH * conv.out_channels * pixels**2,
                tolerance=1e-2,  # the gradient of a weight is a sum over all pixels
                totals={TOTAL: len(same)},
            )
        )
    return found


def _build(channels: int, side: int, threads: int) -> dict[str, Contestant]:
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(BATCH, channels, side, side, generator=generator) for _ in range(2))
    weight, bias = (torch.rand(channels, generator=generator).requires_grad_() for _ in range(2))
    running = torch.zeros(channels), torch.ones(channels)
    options: dict[str, Any] = {"training": True, "momentum": 0.03, "eps": 1e-3, "activation": "silu"}

    def step(function: Any, memory_format: torch.memory_format) -> Contestant:
        leaf = x.contiguous(memory_format=memory_format).requires_grad_()
        gradient = upstream.contiguous(memory_format=memory_format)

        def run() -> list[Tensor]:
            with torch.enable_grad():
                y = function(leaf, weight, bias, *running, **options)
                return [y.detach(), *torch.autograd.grad(y, (leaf, weight, bias), gradient)]

        return Contestant(run)

    return {
        OURS: step(batch_norm_act, torch.channels_last),
        "leyolo NCHW": step(batch_norm_act, torch.contiguous_format),
        "torch channels_last": step(batch_norm_act_reference, torch.channels_last),
        "torch NCHW": step(batch_norm_act_reference, torch.contiguous_format),
    }

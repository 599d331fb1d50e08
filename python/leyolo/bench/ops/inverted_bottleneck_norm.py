"""Every inverted bottleneck of a network in training, forward and backward: 16 images of half the side."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import network
from leyolo.models.config import Layer
from leyolo.models.cost import cost
from leyolo.nn import ConvBNAct, InvertedBottleneck

TOTAL = "inverted bottlenecks in training summed over the network"
BATCH = 16


def cases(size: str, imgsz: int) -> list[Case]:
    """One for each distinct shape, with how often it occurs."""
    imgsz //= 2
    table = cost(size, imgsz)
    same: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, layer in enumerate(network(size).config.layers):
        if layer.kind == "bottleneck" and table.layers[index].used:
            shape = layer.in_channels, layer.expand, layer.out_channels, layer.kernel, layer.stride, layer.reduction
            same[(*shape, layer.has_expansion)].append(index)
    found = []
    for indices in same.values():
        layer = network(size).config.layers[indices[0]]
        own = [c for c in table.convolutions if c.convolution.layer == indices[0]]
        side = imgsz // layer.reduction
        wide = f"{layer.expand}-" if layer.has_expansion else ""
        name = f"{BATCH} x {layer.in_channels}-{wide}{layer.out_channels} k{layer.kernel}s{layer.stride}"
        # The outputs of the convolutions: written, read by the norm behind them, read twice by its gradient, whose own
        # map is written and read. Input, output and their gradients: once each.
        maps = 6 * sum(c.output_bytes for c in own) + 2 * (own[0].input_bytes + own[-1].output_bytes)
        found.append(
            Case(
                op="inverted_bottleneck_norm",
                name=f"{name} to {side}x{side}",
                build=partial(_build, layer, side),
                operations=3 * 2 * BATCH * sum(c.macs for c in own),
                bytes=BATCH * maps,
                tolerance=1e-2,  # gradients of weights are sums over all pixels
                totals={TOTAL: len(indices)},
            )
        )
    return found


def _build(layer: Layer, side: int, threads: int) -> dict[str, Contestant]:
    side *= layer.stride
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, layer.in_channels, side, side, generator=generator)
    expand = layer.expand if layer.has_expansion else layer.in_channels
    block = InvertedBottleneck(
        *(layer.in_channels, expand, layer.out_channels, layer.kernel, layer.stride), expansion=layer.has_expansion
    ).train()  # fmt: skip
    upstream = torch.randn(block(x).shape, generator=generator)
    parameters = [p for name, p in block.named_parameters() if not name.endswith("conv.bias")]  # whose gradient is zero

    def step(memory_format: torch.memory_format, *, whole: bool, layers: bool) -> Contestant:
        leaf = x.contiguous(memory_format=memory_format).requires_grad_()
        gradient = upstream.contiguous(memory_format=memory_format)

        def run() -> list[Tensor]:
            block.fused_training = whole
            for module in block.children():
                if isinstance(module, ConvBNAct):
                    module.fused_training = layers
            with torch.enable_grad():
                y = block(leaf)
                return [y.detach(), *torch.autograd.grad(y, (leaf, *parameters), gradient)]

        return Contestant(run)

    return {
        OURS: step(torch.channels_last, whole=True, layers=True),
        "leyolo NCHW": step(torch.contiguous_format, whole=True, layers=True),
        "leyolo layer by layer": step(torch.channels_last, whole=False, layers=True),
        "torch channels_last": step(torch.channels_last, whole=False, layers=False),
        "torch NCHW": step(torch.contiguous_format, whole=False, layers=False),
    }

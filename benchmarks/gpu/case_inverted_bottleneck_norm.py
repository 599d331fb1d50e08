"""Inverted bottlenecks and the whole network in training, forward and backward: autocast, batch 64, channels_last."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from case import OURS, GpuCase, Run
from leyolo.models.config import CONFIGS, Layer
from leyolo.models.network import build
from leyolo.nn import InvertedBottleneck

GOAL_US = 11000.0  # the network on an H100


def step(module: nn.Module, x: Tensor, upstream: Tensor, dtype: torch.dtype) -> list[Tensor]:
    with torch.enable_grad(), torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        leaves = [t for t in (x, *module.parameters()) if t.requires_grad]
        return list(torch.autograd.grad(module(x), leaves, upstream, allow_unused=True))


def contestants(module: nn.Module, x: Tensor, dtype: torch.dtype, switches: dict[str, Any]) -> dict[str, Run]:
    """``switches``: what sets the module up, by name; it is called before every step."""
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        upstream = torch.randn_like(module(x))

    def run(switch: Any) -> list[Tensor]:
        switch()
        return step(module, x, upstream, dtype)

    return {name: partial(run, switch) for name, switch in switches.items()}


def switch(module: nn.Module, *, block: bool, layers: bool) -> None:
    for part in module.modules():
        if hasattr(part, "fused_training"):
            part.fused_training = block if isinstance(part, InvertedBottleneck) else layers


def switches(module: nn.Module) -> dict[str, Any]:
    return {
        OURS: partial(switch, module, block=True, layers=True),
        "layer by layer": partial(switch, module, block=False, layers=True),
        "torch": partial(switch, module, block=False, layers=False),
    }


def map_of(batch: int, channels: int, side: int, device: str, dtype: torch.dtype) -> Tensor:
    x = torch.randn(batch, channels, side, side, device=device).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def blocks() -> list[Layer]:
    """The first of each kernel and stride."""
    found: dict[tuple[int, int], Layer] = {}
    for layer in CONFIGS["n"].layers:
        if layer.kind == "bottleneck" and layer.has_expansion:
            found.setdefault((layer.kernel, layer.stride), layer)
    return list(found.values())


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    on_gpu = device == "cuda"
    batch, imgsz, dtype = (64, 640, torch.float16) if on_gpu else (2, 32, torch.float32)
    network = build("n", 80).to(device, memory_format=torch.channels_last).train()
    yield GpuCase(
        name=f"nano training step {batch} x {imgsz}",
        contestants=contestants(network, map_of(batch, 3, imgsz, device, torch.float32), dtype, switches(network)),
        goal_us=GOAL_US if on_gpu else None,
        headline=True,
    )
    if quick:
        return
    for layer in blocks():
        out = imgsz // layer.reduction
        side = out * layer.stride
        channels = layer.in_channels, layer.expand, layer.out_channels
        block = InvertedBottleneck(*channels, layer.kernel, layer.stride).train()
        block.to(device, memory_format=torch.channels_last)
        x = map_of(batch, layer.in_channels, side, device, dtype).requires_grad_()
        # The outputs of the convolutions: written, read by what follows, read by its gradient, whose own map is written
        # and read. Input, output and their gradients: once each.
        wide = batch * layer.expand * (side**2 + out**2)
        narrow = batch * (layer.in_channels * side**2 + layer.out_channels * out**2)
        name = f"{'-'.join(map(str, channels))} k{layer.kernel}s{layer.stride}"
        yield GpuCase(
            name=f"block in training {batch} x {name} to {out}",
            contestants=contestants(block, x, dtype, switches(block)),
            bytes=x.element_size() * (5 * wide + 2 * narrow),
        )
        if not on_gpu:  # a rehearsal
            return

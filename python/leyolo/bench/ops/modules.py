"""Parts of the network in other libraries: every one of them is a torch module with batch norms, and an image."""

from __future__ import annotations

import copy
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from leyolo.bench.ops.case import Contestant, peer
from leyolo.bench.runtimes import ncnn, onnxruntime, openvino
from leyolo.models.cost import ConvCost, cost
from leyolo.models.network import LeYOLONet, build
from leyolo.nn.blocks import ConvBNAct

BLOCKS = "blocks summed over the network"
"""The sum of everything but upsampling: stem, inverted bottlenecks, dense convolutions between them, SPPF, head."""

RUNTIMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "onnxruntime": (onnxruntime, ("onnxruntime", "onnxscript")),
    "openvino": (openvino, ("openvino",)),
    "ncnn": (ncnn, ("ncnn", "pnnx")),
}
"""Where parts of the network run too, and the packages that it takes."""


@cache
def network(size: str) -> LeYOLONet:
    """A network with random weights and statistics that keep activations near 1."""
    torch.manual_seed(0)
    net = build(size).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 1.5),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    return net


def distinct(size: str, imgsz: int, name: Callable[[ConvCost], str | None]) -> dict[str, list[ConvCost]]:
    """The convolutions that are computed, together where ``name`` is the same; without those that it calls None."""
    table = cost(size, imgsz)
    found: dict[str, list[ConvCost]] = {}
    for c in table.convolutions:
        key = name(c) if table.layers[c.convolution.layer].used else None
        if key is not None:
            found.setdefault(key, []).append(c)
    return found


def image(channels: int, height: int, width: int) -> Tensor:
    """Random feature maps [1, C, H, W]."""
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))


def folded(module: nn.Module) -> nn.Module:
    """A copy with every batch norm in its convolution."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if isinstance(part, ConvBNAct):
            part.fold()
    return module


def peers(module: nn.Module, x: Tensor, threads: int) -> dict[str, Contestant]:
    """``module`` on ``x`` in torch eager (both layouts; batch norm apart and, where there is one, folded) and in
    :data:`RUNTIMES`."""
    found = {}
    flat = folded(module)
    norms = any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    for suffix, net in (("", module), (" folded", flat))[: 1 + norms]:
        for layout, memory in (("", torch.contiguous_format), (" channels_last", torch.channels_last)):
            found[f"torch{layout}{suffix}"] = Contestant(
                partial(_laid_out(net, memory), x.contiguous(memory_format=memory))
            )
    array = x.numpy()
    for name, (runtime, packages) in RUNTIMES.items():
        if all(map(peer, packages)):
            with _quiet():
                forward = runtime.prepared(_laid_out(flat, torch.contiguous_format), x, threads)
            found[name] = Contestant(partial(forward, array))
    return found


def _laid_out(module: nn.Module, memory: torch.memory_format) -> nn.Module:
    """A copy with its weights in a layout."""
    copied: nn.Module = copy.deepcopy(module).to(memory_format=memory)  # type: ignore[call-overload]
    return copied


@contextmanager
def _quiet() -> Iterator[None]:
    """Converters have much to say, on both streams and below Python; errors come as exceptions."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            for number, copied in enumerate(kept, 1):
                os.dup2(copied, number)
                os.close(copied)

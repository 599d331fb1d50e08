"""The 5x5 max pool of SPPF: a step of our forward pass, which has no operator of its own."""

from __future__ import annotations

from functools import partial

from torch import nn

from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import image, network, peers
from leyolo.bench.ops.packed import packed_max_pool2d


def cases(size: str, imgsz: int) -> list[Case]:
    """One of the three pools."""
    layer = next(layer for layer in network(size).config.layers if layer.kind == "sppf")
    side = imgsz // layer.reduction
    return [
        Case(
            op="max_pool2d",
            name=f"C{layer.expand} k{layer.kernel} {side}x{side}",
            build=partial(_build, size, imgsz, layer.expand, side, layer.kernel),
            bytes=8 * layer.expand * side * side,
            tolerance=0,
        )
    ]


def _build(size: str, imgsz: int, channels: int, side: int, kernel: int, threads: int) -> dict[str, Contestant]:
    x = image(channels, side, side)
    module = nn.MaxPool2d(kernel, 1, kernel // 2)
    return {OURS: packed_max_pool2d(size, imgsz, kernel, x, threads), **peers(module, x, threads)}

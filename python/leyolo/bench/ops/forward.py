"""What only a whole forward pass has: the stem, SPPF and the levels of the head, each alone.

The whole pass is ``leyolo benchmark model``'s matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import BLOCKS, image, network, peers
from leyolo.bench.ops.packed import packed_layers, packed_level
from leyolo.models.cost import cost


def cases(size: str, imgsz: int) -> list[Case]:
    """Stem, SPPF, and one per level."""
    table = cost(size, imgsz)
    config = network(size).config
    sppf = next(index for index, layer in enumerate(config.layers) if layer.kind == "sppf")
    parts = []
    for indices, what in (([0, 1], "stem"), ([sppf], "SPPF")):
        own = [c for c in table.convolutions if c.convolution.layer in indices]
        side = imgsz // config.layers[indices[-1]].reduction
        name = f"L{','.join(map(str, indices))}: {what} to {side}x{side}"
        parts.append((name, own, own[0].input_bytes + own[-1].output_bytes, partial(_layers, size, indices, imgsz)))
    for level, stride in enumerate(config.strides):
        own = [
            c for c in table.convolutions if c.convolution.name.startswith((f"head.box.{level}", f"head.cls.{level}"))
        ]
        side = imgsz // stride
        moved = own[0].input_bytes + sum(c.output_bytes for c in own if not c.convolution.norm)
        parts.append((f"head: level {level} at {side}x{side}", own, moved, partial(_level, size, level, imgsz)))
    return [
        Case(
            op="forward",
            name=name,
            build=build,
            operations=2 * sum(c.macs for c in own),
            bytes=moved + sum(c.weight_bytes for c in own),
            tolerance=1e-3,
            totals={BLOCKS: 1},
        )
        for name, own, moved, build in parts
    ]


def _layers(size: str, indices: Sequence[int], imgsz: int, threads: int) -> dict[str, Contestant]:
    first = network(size).config.layers[indices[0]]
    side = imgsz // first.reduction * first.stride
    x = image(first.in_channels, side, side)
    module = nn.Sequential(OrderedDict((f"layer{index}", network(size).layers[index]) for index in indices)).eval()
    return {OURS: packed_layers(size, indices, imgsz, x, threads), **peers(module, x, threads)}


class _Level(nn.Module):
    """Both branches of one level of the head: its rows of the logits [1, H * W, K]."""

    def __init__(self, box: nn.Module, cls: nn.Module) -> None:
        super().__init__()
        self.box, self.cls = box, cls

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.box(x), self.cls(x)], 1).permute(0, 2, 3, 1).flatten(1, 2)


def _level(size: str, level: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    net = network(size)
    side = imgsz // net.config.strides[level]
    x = image(net.config.head_channels[level], side, side)
    branches = (net.get_submodule(f"head.{branch}.{level}") for branch in ("box", "cls"))
    return {OURS: packed_level(size, level, imgsz, x, threads), **peers(_Level(*branches).eval(), x, threads)}

"""LeYOLO nano, small, medium and large as data. Torch is not imported here.

A graph is a short table of rows; :func:`_build` scales its widths and works out input widths and strides. Small shares
the graph of nano, and medium and large share one graph (the published files of the two describe the same network).
Source: Hollard et al., "LeYOLO, New Embedded Architecture for Object Detection" (2024), and the published
configurations.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["conv", "bottleneck", "sppf", "upsample", "concat"]
Head = Literal["leyolo", "yolox"]

HEADS: tuple[Head, ...] = ("leyolo", "yolox")
IMAGE = -1
"""The input index that stands for the image."""

_WIDTH_CAP = 576


@dataclass(frozen=True)
class Layer:
    """One top-level layer.

    kind        "conv": conv, batch norm, SiLU; "bottleneck": [1x1 expansion,] depthwise, 1x1 projection without
                activation, plus the input where shapes agree; "sppf": 1x1 to ``expand``, three chained 5x5 max pools,
                concat, 1x1; "upsample": nearest, twice the size; "concat": channels, in the order of ``inputs``.
    inputs      indices of the layers read, ``IMAGE`` for the image
    in_channels channels read (their sum for a concat)
    expand      channels of the depthwise convolution, or of the pooled maps of "sppf"; 0 elsewhere
    reduction   image pixels per output pixel along one side
    """

    kind: Kind
    inputs: tuple[int, ...]
    in_channels: int
    expand: int
    out_channels: int
    kernel: int
    stride: int
    has_expansion: bool
    reduction: int

    @property
    def residual(self) -> bool:
        return self.kind == "bottleneck" and self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True)
class ModelConfig:
    """One size: the layers before the head, which of them the head reads, and the head's constants.

    used    layers that reach the head. In medium and large the last four do not: they exist in every checkpoint and are
            counted among the parameters, but nothing needs their output, so nobody computes them.
    """

    size: str
    name: str
    width: float
    layers: tuple[Layer, ...]
    head_inputs: tuple[int, ...]
    used: frozenset[int]
    strides: tuple[int, ...] = (8, 16, 32)
    reg_max: int = 16

    @property
    def head_channels(self) -> tuple[int, ...]:
        """Channels that each level of the head reads."""
        return tuple(self.layers[index].out_channels for index in self.head_inputs)

    @property
    def unused(self) -> tuple[int, ...]:
        return tuple(index for index in range(len(self.layers)) if index not in self.used)

    @property
    def box_width(self) -> int:
        """Hidden channels of the box branch (leyolo head), the same at every level."""
        return max(16, self.head_channels[0] // 4, 4 * self.reg_max)

    def default_head_width(self, num_classes: int, head: str = "leyolo") -> int:
        """Hidden channels of the class branch (leyolo head), or of the stem and both stacks (yolox: 256 * width)."""
        if head == "yolox":
            return 64 if self.size == "n" else 96
        return max(self.head_channels[0], min(num_classes, 100))

    def outputs(self, num_classes: int, head: str = "leyolo") -> int:
        """Channels of the logits: 4 * reg_max + classes, or 4 + 1 + classes for the yolox head."""
        return num_classes + (5 if head == "yolox" else 4 * self.reg_max)

    def anchors(self, height: int, width: int) -> int:
        """Anchor points of all levels for an image of this size."""
        return sum((height // stride) * (width // stride) for stride in self.strides)


class _Row(NamedTuple):
    """A layer before scaling. ``expand`` None: no expansion, the depthwise runs on the input channels."""

    kind: Kind
    out: int = 0
    kernel: int = 1
    stride: int = 1
    expand: int | None = None
    inputs: tuple[int, ...] = ()


def _conv(out: int, kernel: int, stride: int) -> _Row:
    return _Row("conv", out, kernel, stride)


def _block(expand: int | None, out: int, kernel: int, stride: int = 1) -> _Row:
    return _Row("bottleneck", out, kernel, stride, expand)


def _concat(*inputs: int) -> _Row:
    return _Row("concat", inputs=inputs)


_UPSAMPLE = _Row("upsample", kernel=2)
_SPPF = _Row("sppf", 96, 5)

_SMALL_GRAPH = (
    *(_conv(16, 3, 2), _conv(16, 1, 1), _block(None, 16, 3, 2)),  # 0-2
    *(_block(96, 32, 3, 2), _block(96, 32, 3)),  # 3-4: stride 8
    *(_block(96, 64, 5, 2), *[_block(192, 64, 5)] * 4),  # 5-9: stride 16
    *(_block(576, 96, 5, 2), *[_block(576, 96, 5)] * 3, _SPPF),  # 10-14: stride 32
    *(_UPSAMPLE, _concat(15, 9), *[_block(128, 64, 5)] * 3),  # 15-19: down to stride 16
    *(_UPSAMPLE, _concat(20, 4), _block(None, 32, 3), *[_block(64, 32, 3)] * 2),  # 20-24: down to stride 8
    *(_conv(64, 3, 2), _concat(25, 19), *[_block(128, 64, 5)] * 3),  # 25-29: up to stride 16
    *(_conv(96, 3, 2), _concat(30, 14), *[_block(192, 96, 5)] * 3),  # 30-34: up to stride 32
)

_LARGE_GRAPH = (
    *(_conv(16, 3, 2), _conv(16, 1, 1), _block(None, 16, 3, 2)),  # 0-2
    *(_block(96, 32, 3, 2), *[_block(96, 32, 3)] * 2),  # 3-5: stride 8
    *(_block(96, 64, 5, 2), *[_block(192, 64, 5)] * 5),  # 6-11: stride 16
    *(_block(576, 96, 5, 2), *[_block(576, 96, 5)] * 4, _SPPF),  # 12-17: stride 32
    *(_UPSAMPLE, _concat(18, 11), *[_block(128, 64, 5)] * 4),  # 18-23: down to stride 16
    *(_UPSAMPLE, _concat(24, 5), _block(None, 32, 3), *[_block(64, 32, 3)] * 2, _block(128, 64, 5)),  # 24-29: stride 8
    *(_conv(64, 3, 2), _concat(30, 23), *[_block(128, 64, 5)] * 4),  # 30-35: up to stride 16
    *(_conv(96, 3, 2), _concat(36, 17), *[_block(192, 96, 5)] * 3, _block(128, 64, 5)),  # 36-41: up to stride 32
)


def _scaled(channels: int, width: float) -> int:
    return 8 * math.ceil(min(channels, _WIDTH_CAP) * width / 8)


def _build(size: str, name: str, graph: tuple[_Row, ...], width: float, head_inputs: tuple[int, ...]) -> ModelConfig:
    layers: list[Layer] = []
    for index, row in enumerate(graph):
        inputs = row.inputs or (index - 1,)
        in_channels = sum(3 if i == IMAGE else layers[i].out_channels for i in inputs)
        before = 1 if inputs[0] == IMAGE else layers[inputs[0]].reduction
        out_channels = _scaled(row.out, width) if row.out else in_channels
        expand = 0
        if row.kind == "bottleneck":
            expand = in_channels if row.expand is None else _scaled(row.expand, width)
        elif row.kind == "sppf":
            expand = in_channels // 2
        layers.append(
            Layer(
                kind=row.kind,
                inputs=inputs,
                in_channels=in_channels,
                expand=expand,
                out_channels=out_channels,
                kernel=row.kernel,
                stride=row.stride,
                has_expansion=row.expand is not None,
                reduction=before // 2 if row.kind == "upsample" else before * row.stride,
            )
        )
    return ModelConfig(size, name, width, tuple(layers), head_inputs, _needed(layers, head_inputs))


def _needed(layers: list[Layer], head_inputs: tuple[int, ...]) -> frozenset[int]:
    found: set[int] = set()
    waiting = list(head_inputs)
    while waiting:
        index = waiting.pop()
        if index != IMAGE and index not in found:
            found.add(index)
            waiting.extend(layers[index].inputs)
    return frozenset(found)


CONFIGS: dict[str, ModelConfig] = {
    "n": _build("n", "nano", _SMALL_GRAPH, 1.0, (24, 29, 34)),
    "s": _build("s", "small", _SMALL_GRAPH, 1.33, (24, 29, 34)),
    "m": _build("m", "medium", _LARGE_GRAPH, 1.33, (27, 32, 37)),
    "l": _build("l", "large", _LARGE_GRAPH, 1.33, (27, 32, 37)),
}
SIZES: tuple[str, ...] = tuple(CONFIGS)


def find_size(name: str) -> str | None:
    """The size meant by ``name`` ("n", "nano", "leyolo-n", "leyolo_nano", "LeYOLONano", …), or None."""
    key = re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("leyolo")
    return next((size for size, config in CONFIGS.items() if key in (size, config.name)), None)


def lookup(name: str) -> ModelConfig:
    """The configuration of a size by any of its names; ValueError with the nearest right name otherwise."""
    size = find_size(name)
    if size is None:
        known = [f"leyolo-{size}" for size in SIZES]
        spellings = known + [spelling for c in CONFIGS.values() for spelling in (c.name, f"leyolo-{c.name}")]
        near = difflib.get_close_matches(name.lower().replace("_", "-"), spellings, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no model is called {name!r} (known: {', '.join(known)}){hint}")
    return CONFIGS[size]


def check_head(head: str) -> Head:
    """``head`` if it is a known head, else ValueError."""
    for known in HEADS:
        if head == known:
            return known
    near = difflib.get_close_matches(head, HEADS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no head is called {head!r} (known: {', '.join(HEADS)}){hint}")

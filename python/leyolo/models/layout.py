"""Every convolution of a network, by name, and with it every tensor of the state dict. Torch is not imported here.

This is the one description that the torch modules, the readers of weights and the cost table are checked against.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from leyolo.models.config import Layer, ModelConfig, check_head

ConvKind = Literal["depthwise", "pointwise", "regular"]


@dataclass(frozen=True)
class Convolution:
    """``{name}.conv`` and, where ``norm``, ``{name}.bn``. ``layer`` is the top-level layer, the head coming last."""

    name: str
    layer: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    bias: bool
    norm: bool
    activation: bool
    reduction: int

    @property
    def kind(self) -> ConvKind:
        if self.groups > 1:
            return "depthwise"
        return "pointwise" if self.kernel == 1 else "regular"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of its tensors in state-dict order."""
        yield f"{self.name}.conv.weight", self.weight_shape
        if self.bias:
            yield f"{self.name}.conv.bias", (self.out_channels,)
        if self.norm:
            for part in ("weight", "bias", "running_mean", "running_var"):
                yield f"{self.name}.bn.{part}", (self.out_channels,)


def convolutions(
    config: ModelConfig, num_classes: int = 80, head: str = "leyolo", head_width: int | None = None
) -> tuple[Convolution, ...]:
    """All convolutions in state-dict order. ``head_width`` as in :meth:`ModelConfig.default_head_width`."""
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if head_width is None:
        head_width = config.default_head_width(num_classes, head)
    elif head_width < 1:
        raise ValueError(f"head_width must be at least 1, got {head_width}")
    found = [conv for index, layer in enumerate(config.layers) for conv in _layer(index, layer)]
    if check_head(head) == "leyolo":
        found += _leyolo_head(config, num_classes, head_width)
    else:
        found += _yolox_head(config, num_classes, head_width)
    return tuple(found)


def state_shapes(
    config: ModelConfig, num_classes: int = 80, head: str = "leyolo", head_width: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of the state dict, in order."""
    return dict(tensor for conv in convolutions(config, num_classes, head, head_width) for tensor in conv.tensors())


def _layer(index: int, layer: Layer) -> Iterator[Convolution]:
    name = f"layers.{index}"
    before = layer.reduction // layer.stride
    if layer.kind == "conv":
        yield Convolution(
            *(name, index, layer.in_channels, layer.out_channels, layer.kernel, layer.stride, 1),
            bias=True, norm=True, activation=True, reduction=layer.reduction,
        )  # fmt: skip
    elif layer.kind == "bottleneck":
        if layer.has_expansion:
            yield Convolution(
                *(f"{name}.expand", index, layer.in_channels, layer.expand, 1, 1, 1),
                bias=True, norm=True, activation=True, reduction=before,
            )  # fmt: skip
        yield Convolution(
            *(f"{name}.depthwise", index, layer.expand, layer.expand, layer.kernel, layer.stride, layer.expand),
            bias=True, norm=True, activation=True, reduction=layer.reduction,
        )  # fmt: skip
        yield Convolution(
            *(f"{name}.project", index, layer.expand, layer.out_channels, 1, 1, 1),
            bias=True, norm=True, activation=False, reduction=layer.reduction,
        )  # fmt: skip
    elif layer.kind == "sppf":
        for part, in_channels, out_channels in (
            ("reduce", layer.in_channels, layer.expand),
            ("merge", 4 * layer.expand, layer.out_channels),
        ):
            yield Convolution(
                *(f"{name}.{part}", index, in_channels, out_channels, 1, 1, 1),
                bias=False, norm=True, activation=True, reduction=layer.reduction,
            )  # fmt: skip


def _head_conv(
    config: ModelConfig, name: str, reduction: int, in_channels: int, out: int, kernel: int = 1, groups: int = 1
) -> Convolution:
    return Convolution(
        *(name, len(config.layers), in_channels, out, kernel, 1, groups),
        bias=False, norm=True, activation=True, reduction=reduction,
    )  # fmt: skip


def _predictor(config: ModelConfig, name: str, reduction: int, in_channels: int, out: int) -> Convolution:
    return Convolution(
        *(name, len(config.layers), in_channels, out, 1, 1, 1),
        bias=True, norm=False, activation=False, reduction=reduction,
    )  # fmt: skip


def _leyolo_head(config: ModelConfig, num_classes: int, head_width: int) -> Iterator[Convolution]:
    for branch, width, out in (("box", config.box_width, 4 * config.reg_max), ("cls", head_width, num_classes)):
        for level, (channels, stride) in enumerate(zip(config.head_channels, config.strides, strict=True)):
            name = f"head.{branch}.{level}"
            yield _head_conv(config, f"{name}.0", stride, channels, width)
            yield _head_conv(config, f"{name}.1", stride, width, width, 3, width)
            yield _head_conv(config, f"{name}.2", stride, width, width, 3, width)
            yield _predictor(config, f"{name}.3", stride, width, out)


def _yolox_head(config: ModelConfig, num_classes: int, head_width: int) -> Iterator[Convolution]:
    levels = list(enumerate(zip(config.head_channels, config.strides, strict=True)))
    for level, (channels, stride) in levels:
        yield _head_conv(config, f"head.stem.{level}", stride, channels, head_width)
    for branch, out in (("box", 5), ("cls", num_classes)):
        for level, (_, stride) in levels:
            for j in range(2):
                yield _head_conv(config, f"head.{branch}.{level}.{j}", stride, head_width, head_width, 3)
            yield _predictor(config, f"head.{branch}.{level}.2", stride, head_width, out)

"""Parameters, multiply-accumulates and bytes of any network at any image size, without building it. Torch-free.

Counts are exact and agree with the official model: its conv-only MACs (no bias, batch norm, activation or pooling), and
its parameter count, which includes the frozen 16-element kernel with which it takes the expectation of a distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from leyolo.models.config import Kind, ModelConfig, lookup
from leyolo.models.layout import ConvKind, Convolution, convolutions

CONV_KINDS: tuple[ConvKind, ...] = ("depthwise", "pointwise", "regular")


@dataclass(frozen=True)
class ConvCost:
    """One convolution for one image.

    parameters    weight, bias, batch-norm scale and shift
    weight_bytes  float32 weight and bias as it runs, its batch norm folded in
    input_bytes, output_bytes   float32 maps read and written
    """

    convolution: Convolution
    macs: int
    parameters: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class LayerCost:
    """One top-level layer for one image; the head comes last. ``used``: whether anything needs its output."""

    index: int
    kind: Kind | str
    output: tuple[int, int, int]
    macs: int
    parameters: int
    output_bytes: int
    used: bool


@dataclass(frozen=True)
class ModelCost:
    """The whole network for one image of ``height`` x ``width``.

    parameters            as the official model counts: ``trainable_parameters`` and, for the leyolo head, the
                          ``reg_max`` values of its frozen kernel, which our networks do not carry
    trainable_parameters  values that training changes: what ``sum(p.numel() for p in network.parameters())`` gives here
    folded_parameters     values left when every batch norm is folded into its convolution (same count of the kernel)
    macs                  all convolutions, those of layers that nothing needs included, as the official model computes
    computed_macs         what we compute: without the layers that nothing needs
    """

    size: str
    head: str
    num_classes: int
    height: int
    width: int
    parameters: int
    trainable_parameters: int
    folded_parameters: int
    macs: int
    computed_macs: int
    layers: tuple[LayerCost, ...]
    convolutions: tuple[ConvCost, ...]

    @property
    def gflops(self) -> float:
        """Two operations for each multiply-accumulate, in billions."""
        return 2 * self.macs / 1e9

    def macs_by_kind(self) -> dict[str, int]:
        """Multiply-accumulates of depthwise, pointwise (1x1) and regular convolutions."""
        found = dict.fromkeys(map(str, CONV_KINDS), 0)
        for c in self.convolutions:
            found[c.convolution.kind] += c.macs
        return found

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes written by depthwise, pointwise and regular convolutions, float32."""
        found = dict.fromkeys(map(str, CONV_KINDS), 0)
        for c in self.convolutions:
            found[c.convolution.kind] += c.output_bytes
        return found

    @property
    def weight_bytes(self) -> int:
        """All weights and biases as they run, float32."""
        return sum(c.weight_bytes for c in self.convolutions)

    def official_gflops(self, *, fused: bool = True) -> float:
        """The figure of the official README, which counts more than convolutions: 4 operations per batch-norm output, 1
        per upsampled value, and the expectation over distances. ``fused``: after the official fusion, which folds the
        batch norm of the head and of SPPF only."""
        config = lookup(self.size)
        operations = self.macs
        if self.head == "leyolo":
            operations += 4 * config.reg_max * config.anchors(self.height, self.width)
        for cost in self.convolutions:
            conv = cost.convolution
            if conv.norm and not (fused and _officially_fused(conv, config)):
                operations += cost.output_bytes  # 4 operations per value, 4 bytes per value
        operations += sum(layer.output_bytes // 4 for layer in self.layers if layer.kind == "upsample")
        return 2 * operations / 1e9


def _officially_fused(conv: Convolution, config: ModelConfig) -> bool:
    return conv.layer == len(config.layers) or config.layers[conv.layer].kind == "sppf"


def cost(
    size: str,
    imgsz: int | tuple[int, int] = 640,
    num_classes: int = 80,
    head: str = "leyolo",
    *,
    head_width: int | None = None,
) -> ModelCost:
    """The cost of one image of ``imgsz`` (a side, or height and width, multiples of 32) through a network."""
    config = lookup(size)
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    coarsest = config.strides[-1]
    if height < 1 or width < 1 or height % coarsest or width % coarsest:
        raise ValueError(f"height and width should be positive multiples of {coarsest}, got {height} x {width}")
    costs = tuple(_conv(conv, height, width) for conv in convolutions(config, num_classes, head, head_width))
    layers = []
    for index, layer in enumerate(config.layers):
        own = [c for c in costs if c.convolution.layer == index]
        shape = (layer.out_channels, height // layer.reduction, width // layer.reduction)
        layers.append(_layer(index, layer.kind, shape, own, index in config.used))
    own = [c for c in costs if c.convolution.layer == len(config.layers)]
    shape = (config.outputs(num_classes, head), config.anchors(height, width), 1)
    layers.append(_layer(len(config.layers), "head", shape, own, True))
    frozen = config.reg_max if head == "leyolo" else 0
    trainable = sum(c.parameters for c in costs)
    return ModelCost(
        size=config.size,
        head=head,
        num_classes=num_classes,
        height=height,
        width=width,
        parameters=trainable + frozen,
        trainable_parameters=trainable,
        folded_parameters=sum(c.weight_bytes for c in costs) // 4 + frozen,
        macs=sum(c.macs for c in costs),
        computed_macs=sum(layer.macs for layer in layers if layer.used),
        layers=tuple(layers),
        convolutions=costs,
    )


def _conv(conv: Convolution, height: int, width: int) -> ConvCost:
    pixels = (height // conv.reduction) * (width // conv.reduction)
    weights = math.prod(conv.weight_shape)
    return ConvCost(
        convolution=conv,
        macs=weights * pixels,
        parameters=weights + conv.out_channels * (conv.bias + 2 * conv.norm),
        weight_bytes=4 * (weights + conv.out_channels),
        input_bytes=4 * conv.in_channels * pixels * conv.stride**2,
        output_bytes=4 * conv.out_channels * pixels,
    )


def _layer(
    index: int, kind: Kind | str, output: tuple[int, int, int], own: Iterable[ConvCost], used: bool
) -> LayerCost:
    own = list(own)
    return LayerCost(
        index=index,
        kind=kind,
        output=output,
        macs=sum(c.macs for c in own),
        parameters=sum(c.parameters for c in own),
        output_bytes=4 * math.prod(output),
        used=used,
    )

"""Readers of an upsampled map that do without it.

A 1x1 convolution runs at the low resolution: conv(concat(upsample(a), b)) = upsample(conv_a(a)) + conv_b(b). A
depthwise convolution reads the low map by index.
"""

from __future__ import annotations

from dataclasses import dataclass

from leyolo.models.config import Layer, ModelConfig
from leyolo.runtime.fold import Weights


@dataclass(frozen=True)
class Split:
    """A concatenation of an upsampled map and another one that nobody needs as a whole.

    upsampling  the layer between ``low`` and the concatenation
    low, other  the layers that are read in its place
    channels    of ``low``, the first of the concatenation
    readers     bottlenecks, whose first convolution reads it
    """

    upsampling: int
    low: int
    other: int
    channels: int
    readers: tuple[int, ...]


def splits(config: ModelConfig, *, expansions: bool = True) -> dict[int, Split]:
    """By concatenation: those that only expansions (unless switched off) and depthwise convolutions read."""
    found = {}
    for index in sorted(config.used):
        layer = config.layers[index]
        if layer.kind != "concat" or len(layer.inputs) != 2 or index in config.head_inputs:
            continue
        first, other = layer.inputs
        upsampling = config.layers[first]
        if upsampling.kind != "upsample" or first in config.head_inputs or _readers(config, first) != (index,):
            continue
        readers = _readers(config, index)
        if all(_reads_parts(config.layers[reader], expansions) for reader in readers):
            found[index] = Split(first, upsampling.inputs[0], other, upsampling.out_channels, readers)
    return found


def split_weights(config: ModelConfig, found: dict[int, Split], folded: Weights) -> Weights:
    """``folded`` with the convolutions that read a split concatenation in two, ``X.low`` and ``X.other``: an expansion
    by input channels, with the bias in the second; a depthwise convolution by channels."""
    result = dict(folded)
    for split in found.values():
        for reader in split.readers:
            name, n = first_convolution(config, reader), split.channels
            weight, bias = result.pop(name)
            if config.layers[reader].has_expansion:
                result[f"{name}.low"] = weight[:, :n], 0 * bias
                result[f"{name}.other"] = weight[:, n:], bias
            else:
                result[f"{name}.low"] = weight[:n], bias[:n]
                result[f"{name}.other"] = weight[n:], bias[n:]
    return result


def first_convolution(config: ModelConfig, reader: int) -> str:
    """Of a bottleneck."""
    return f"layers.{reader}.{'expand' if config.layers[reader].has_expansion else 'depthwise'}"


def _reads_parts(layer: Layer, expansions: bool) -> bool:
    if layer.kind != "bottleneck" or layer.residual:
        return False
    return expansions if layer.has_expansion else layer.stride == 1


def _readers(config: ModelConfig, index: int) -> tuple[int, ...]:
    return tuple(reader for reader in sorted(config.used) if index in config.layers[reader].inputs)

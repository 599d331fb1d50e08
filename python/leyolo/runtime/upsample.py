"""1x1 convolutions over an upsampled map, which run at its low resolution:

conv(concat(upsample(a), b)) = upsample(conv_a(a)) + conv_b(b)
"""

from __future__ import annotations

from dataclasses import dataclass

from leyolo.models.config import ModelConfig
from leyolo.runtime.fold import Weights


@dataclass(frozen=True)
class Split:
    """A concatenation of an upsampled map and another one that nobody needs as a whole.

    upsampling  the layer between ``low`` and the concatenation
    low, other  the layers that are read in its place
    channels    of ``low``, the first of the concatenation
    readers     bottlenecks that expand it
    """

    upsampling: int
    low: int
    other: int
    channels: int
    readers: tuple[int, ...]


def splits(config: ModelConfig) -> dict[int, Split]:
    """By concatenation: those that only expansions read."""
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
        if all(config.layers[reader].has_expansion and not config.layers[reader].residual for reader in readers):
            found[index] = Split(first, upsampling.inputs[0], other, upsampling.out_channels, readers)
    return found


def split_weights(found: dict[int, Split], folded: Weights) -> Weights:
    """``folded`` with the expansions that read a split concatenation in two: ``X.low`` without a bias, ``X.other``."""
    result = dict(folded)
    for split in found.values():
        for reader in split.readers:
            name = f"layers.{reader}.expand"
            weight, bias = result.pop(name)
            result[f"{name}.low"] = weight[:, : split.channels], 0 * bias
            result[f"{name}.other"] = weight[:, split.channels :], bias
    return result


def _readers(config: ModelConfig, index: int) -> tuple[int, ...]:
    return tuple(reader for reader in sorted(config.used) if index in config.layers[reader].inputs)

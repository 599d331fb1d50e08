"""Every inverted bottleneck of a network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from leyolo import _C, ops
from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import BLOCKS, folded, image, network, peers
from leyolo.bench.ops.packed import packed_layers
from leyolo.models.config import Layer
from leyolo.models.cost import cost

TOTAL = "inverted bottlenecks summed over the network"


def cases(size: str, imgsz: int) -> list[Case]:
    """One for each distinct shape, with how often it occurs."""
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
        found.append(
            Case(
                op="inverted_bottleneck",
                name=_name(indices, layer, imgsz),
                build=partial(_build, size, indices[0], imgsz),
                operations=2 * sum(c.macs for c in own),
                bytes=own[0].input_bytes + own[-1].output_bytes + sum(c.weight_bytes for c in own),
                tolerance=1e-3,
                totals={BLOCKS: len(indices), TOTAL: len(indices)},
            )
        )
    return found


def _name(indices: list[int], layer: Layer, imgsz: int) -> str:
    wide = f"{layer.expand}-" if layer.has_expansion else ""
    side = imgsz // layer.reduction
    return (
        f"L{','.join(map(str, indices))}: {layer.in_channels}-{wide}{layer.out_channels} "
        f"k{layer.kernel}s{layer.stride} to {side}x{side}"
    )


def _build(size: str, index: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    layer, module = network(size).config.layers[index], network(size).layers[index]
    side = imgsz // layer.reduction * layer.stride
    x = image(layer.in_channels, side, side)
    nhwc = x.contiguous(memory_format=torch.channels_last)
    flat: Any = folded(module)
    expand = (None, None) if flat.expand is None else (flat.expand.conv.weight, flat.expand.conv.bias)
    weights: Any = (
        *expand,
        *(flat.depthwise.conv.weight, flat.depthwise.conv.bias),
        *(flat.project.conv.weight, flat.project.conv.bias),
    )
    options: dict[str, Any] = {"stride": layer.stride, "residual": layer.residual}
    return {
        OURS: Contestant(lambda: ops.inverted_bottleneck(nhwc, *weights, **options)),
        "leyolo NCHW": Contestant(lambda: ops.inverted_bottleneck(x, *weights, **options)),
        "leyolo packed": packed_layers(size, [index], imgsz, x, threads),
        "leyolo staged": _forced(nhwc, weights, options, math.inf),
        "leyolo streamed": _forced(nhwc, weights, options, 0),
        **peers(module, x, threads),
    }


def _forced(x: Tensor, weights: Sequence[Tensor | None], options: dict[str, Any], share: float) -> Contestant:
    """One of the two ways, whatever the byte model says; through numpy, where the model can be told."""
    image = x.permute(0, 2, 3, 1).numpy()
    arrays: list[Any] = [None if w is None else w.detach().numpy() for w in weights]
    return Contestant(
        lambda: _C.inverted_bottleneck(image, *arrays, **options, share=share),
        lambda y: [y.transpose(0, 3, 1, 2)],
    )

"""Every dense convolution of a network with its batch norm and activation: 1x1, and k x k."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from leyolo import ops
from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import BLOCKS, distinct, folded, image, network, peers
from leyolo.bench.ops.packed import packed_conv2d
from leyolo.models.cost import ConvCost
from leyolo.models.layout import Convolution

TOTAL = "dense convolutions summed over the network"


def cases(size: str, imgsz: int) -> list[Case]:
    """One for each distinct shape, with how often it occurs."""
    layers = network(size).config.layers

    def name(c: ConvCost) -> str | None:
        conv = c.convolution
        side = imgsz // conv.reduction
        channels = f"{conv.in_channels}-{conv.out_channels}"
        plain = "" if conv.activation else ", no SiLU"
        kind = f"k{conv.kernel}s{conv.stride} {channels} to {side}x{side}{plain}"
        return None if conv.kind == "depthwise" else kind

    def between(conv: Convolution) -> bool:
        """A layer of its own, not of the stem."""
        return 1 < conv.layer < len(layers) and layers[conv.layer].kind == "conv"

    found = []
    for kind, same in distinct(size, imgsz, name).items():
        blocks = sum(between(c.convolution) for c in same)
        found.append(
            Case(
                op="conv2d",
                name=kind,
                build=partial(_build, size, same[0].convolution, imgsz),
                operations=2 * same[0].macs,
                bytes=same[0].input_bytes + same[0].output_bytes + same[0].weight_bytes,
                tolerance=1e-3,
                totals={TOTAL: len(same)} | ({BLOCKS: blocks} if blocks else {}),
            )
        )
    return found


def _build(size: str, convolution: Convolution, imgsz: int, threads: int) -> dict[str, Contestant]:
    module = network(size).get_submodule(convolution.name)
    conv: Any = folded(module).conv
    side = imgsz // convolution.reduction * convolution.stride
    x = image(conv.in_channels, side, side)
    nhwc = x.contiguous(memory_format=torch.channels_last)
    activation = "silu" if convolution.activation else "none"
    weight = conv.weight.detach().contiguous()
    options: dict[str, Any] = {"stride": conv.stride[0], "padding": conv.padding[0], "activation": activation}
    return {
        OURS: Contestant(lambda: ops.conv2d(nhwc, weight, conv.bias, **options)),
        "leyolo packed": packed_conv2d(size, imgsz, conv, activation, x, threads),
        **peers(module, x, threads),
    }

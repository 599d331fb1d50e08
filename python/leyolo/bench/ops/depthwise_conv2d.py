"""Every depthwise convolution of a network with its batch norm and SiLU."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from leyolo import ops
from leyolo.bench.ops.case import OURS, Case, Contestant
from leyolo.bench.ops.modules import distinct, folded, image, network, peers
from leyolo.models.cost import ConvCost
from leyolo.models.layout import Convolution

TOTAL = "depthwise + BN + SiLU summed over the network"


def cases(size: str, imgsz: int) -> list[Case]:
    """One for each distinct shape, with how often it occurs."""

    def name(c: ConvCost) -> str | None:
        conv = c.convolution
        side = imgsz // conv.reduction
        kind = f"C{conv.out_channels} k{conv.kernel}s{conv.stride} to {side}x{side}"
        return kind if conv.kind == "depthwise" else None

    return [
        Case(
            op="depthwise_conv2d",
            name=kind,
            build=partial(_build, size, same[0].convolution, imgsz),
            operations=2 * same[0].macs,
            bytes=same[0].input_bytes + same[0].output_bytes + same[0].weight_bytes,
            tolerance=1e-4,
            totals={TOTAL: len(same)},
        )
        for kind, same in distinct(size, imgsz, name).items()
    ]


def _build(size: str, convolution: Convolution, imgsz: int, threads: int) -> dict[str, Contestant]:
    module = network(size).get_submodule(convolution.name)
    conv: Any = folded(module).conv
    side = imgsz // convolution.reduction * convolution.stride
    x = image(conv.in_channels, side, side)
    nhwc = x.contiguous(memory_format=torch.channels_last)
    options: dict[str, Any] = {"stride": conv.stride[0], "padding": conv.padding[0], "activation": "silu"}
    return {
        OURS: Contestant(lambda: ops.depthwise_conv2d(nhwc, conv.weight, conv.bias, **options)),
        "leyolo NCHW": Contestant(lambda: ops.depthwise_conv2d(x, conv.weight, conv.bias, **options)),
        **peers(module, x, threads),
    }

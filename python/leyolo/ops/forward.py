"""A whole network in one call (see ``leyolo.runtime``)."""

from __future__ import annotations

import torch
from torch import Tensor

from leyolo.ops._library import library, register_fake


def forward(
    x: Tensor, program: Tensor, weights: list[Tensor], arena: Tensor, arena_size: int, shape: list[int]
) -> Tensor:
    """Runs a program on ``x`` [N, C, H, W] in channels_last memory: float32 [N, *shape].

    Args:
        x: float32, or uint8 0..255 where the program was made for bytes; on CUDA also in the type of the maps.
        program: int64 [steps, fields] from :class:`leyolo.runtime.Program`, on the CPU.
        weights: packed weights, one array per layer.
        arena: scratch of at least ``arena_size`` values in the type of the maps: float32, bfloat16 or, on CUDA,
            float16; of n times as many, n images run side by side.
        shape: of the result for one image.

    For inference: no gradient is recorded.
    """
    y: Tensor = library.forward(x, program, weights, arena, arena_size, shape)
    return y


@register_fake("forward")
def _(x: Tensor, program: Tensor, weights: list[Tensor], arena: Tensor, arena_size: int, shape: list[int]) -> Tensor:
    return x.new_empty(x.shape[0], *shape, dtype=torch.float32)

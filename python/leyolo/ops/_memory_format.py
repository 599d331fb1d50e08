"""Maps in channels_last memory and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from leyolo.ops._library import call, library, on_cuda, register_fake

_LEAST_MAP = 1 << 15
"""Values; below, the operator's call costs more than the better copy saves."""
_LEAST_SIDE = 8
"""Of the matrix that is transposed; narrower ones are all edges."""
_LEAST_PLANE = 32
"""Pixels."""


def nhwc(x: Tensor) -> Tensor:
    """``x`` [N, C, H, W] in channels_last memory, converted only where it is not."""
    return _stored(x, torch.channels_last) if x.dim() == 4 else x


def dense(x: Tensor) -> Tensor:
    """``x`` as it lies, for operators that take both formats on the CPU; else in channels_last memory, as also where
    planes are so small that what each costs outweighs the copy."""
    if x.dim() == 4 and x.is_contiguous() and not on_cuda(x.device) and x.shape[2] * x.shape[3] >= _LEAST_PLANE:
        return x
    return nhwc(x)


def like_input(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of the op's input: channels_last in gives channels_last out."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return _stored(y, torch.channels_last if last else torch.contiguous_format)


def empty_nhwc(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """For fake kernels: what the C++ side allocates."""
    shape = (x.shape[0], channels, height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _stored(x: Tensor, wanted: torch.memory_format) -> Tensor:
    """``x.contiguous(memory_format=wanted)``, by our own copy where that is faster."""
    if x.is_contiguous(memory_format=wanted):
        return x
    last = wanted == torch.channels_last
    other = torch.contiguous_format if last else torch.channels_last
    if (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=other)
        and not torch.compiler.is_compiling()  # which joins the copy with what is before and behind it
        and x.numel() >= _LEAST_MAP
        and min(x.shape[1], x.shape[2] * x.shape[3]) >= _LEAST_SIDE
    ):
        y: Tensor = call(library.memory_format, (x,), last)
        return y
    return x.contiguous(memory_format=wanted)


@register_fake("memory_format")
def _(x: Tensor, channels_last: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return gradient, None  # of the same values, in whatever memory it comes


torch.library.register_autograd("leyolo::memory_format", _backward)

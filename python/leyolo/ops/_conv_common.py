"""What the convolution ops share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IntPair = int | Sequence[int]


def pair(value: IntPair, name: str) -> list[int]:
    """``value`` as [height, width]."""
    if not isinstance(value, Sequence):
        return [value, value]
    if len(value) != 2:
        raise ValueError(f"{name} must be an int or a pair (height, width), got {value!r}")
    return [*value]


def activate(x: Tensor, activation: str) -> Tensor:
    """The activation by name, in plain torch."""
    match activation:
        case "none":
            return x
        case "silu":
            return F.silu(x)
        case "relu":
            return F.relu(x)
        case "relu6":
            return F.relu6(x)
        case "hardswish":
            return F.hardswish(x)
    raise ValueError(f"activation must be none, silu, relu, relu6 or hardswish, got {activation!r}")


def nhwc(x: Tensor) -> Tensor:
    """``x`` [N, C, H, W] in channels_last memory, converted only where it is not."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def like_input(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of the op's input: channels_last in gives channels_last out."""
    return y if x.is_contiguous(memory_format=torch.channels_last) else y.contiguous()


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Output positions of a window over ``size`` inputs."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def empty_nhwc(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """For fake kernels: what the C++ side allocates."""
    shape = (x.shape[0], channels, height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)

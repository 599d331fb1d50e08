"""What the convolution ops share."""

from __future__ import annotations

from collections.abc import Sequence

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


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Output positions of a window over ``size`` inputs."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1

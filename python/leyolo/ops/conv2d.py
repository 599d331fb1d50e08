"""Dense convolution fused with bias, activation and residual."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo.ops._conv_common import activate, output_size
from leyolo.ops._library import call, library, register_fake
from leyolo.ops._memory_format import empty_nhwc, like_input, nhwc


def conv2d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    activation: str = "none",
) -> Tensor:
    """The same in plain torch."""
    y = activate(F.conv2d(x, weight, bias, stride, padding), activation)
    return y if residual is None else y + residual


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    activation: str = "none",
) -> Tensor:
    """``activation(conv(x, weight) + bias) + residual`` in one pass, for square kernels (1x1 above all).

    Args:
        x: [N, C, H, W], float32, float16 or bfloat16 (computed in float32); channels_last memory is read as it is.
        weight: [O, C, k, k], dtype of ``x``. It is packed at every call; a fused model packs once.
        bias: [O] or None.
        residual: as the result, or None.
        stride, padding: of both axes.
        activation: none, silu, relu, relu6 or hardswish.

    Returns:
        [N, O, H', W'], channels_last if ``x`` was. Differentiable (once); the backward pass is torch's own.
    """
    residual = None if residual is None else nhwc(residual)
    y: Tensor = call(library.conv2d, (nhwc(x), weight.contiguous(), bias, residual), stride, padding, activation)
    return like_input(y, x)


@register_fake("conv2d")
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, stride: int, padding: int, activation: str
) -> Tensor:
    height, width = (output_size(size, weight.shape[2], stride, padding) for size in x.shape[2:])
    return empty_nhwc(x, weight.shape[0], height, width)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.stride, ctx.padding, ctx.activation = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, residual = ctx.saved_tensors
    stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
    pre = gradient
    if ctx.activation != "none":
        z = F.conv2d(x, weight, bias, stride, padding)
        pre = gradient * _derivative(z, ctx.activation)
    mask = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[2]]
    sizes = None if bias is None else [weight.shape[0]]
    gx, gw, gb = torch.ops.aten.convolution_backward(
        pre, x, weight, sizes, stride, padding, [1, 1], False, [0, 0], 1, mask
    )
    wanted = residual is not None and ctx.needs_input_grad[3]
    return gx, gw, gb, gradient if wanted else None, None, None, None


def _derivative(z: Tensor, activation: str) -> Tensor:
    """d activation(z) / dz; at the kinks what torch's autograd gives."""
    match activation:
        case "silu":
            s = torch.sigmoid(z)
            return s * (1 + z * (1 - s))
        case "relu":
            return (z > 0).to(z.dtype)
        case "relu6":
            return ((z > 0) & (z < 6)).to(z.dtype)
        case _:
            slope = torch.where(z < 3, z / 3 + 0.5, torch.ones_like(z))
            return torch.where(z <= -3, torch.zeros_like(z), slope)


torch.library.register_autograd("leyolo::conv2d", _backward, setup_context=_setup_context)

"""Depthwise convolution fused with bias and activation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo.ops._conv_common import IntPair, activate, output_size, pair
from leyolo.ops._library import call, library, register_fake
from leyolo.ops._memory_format import empty_nhwc, like_input, nhwc


def depthwise_conv2d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    activation: str = "none",
) -> Tensor:
    """The same in plain torch."""
    y = F.conv2d(
        x, weight, bias, pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation"), len(weight)
    )
    return activate(y, activation)


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    activation: str = "none",
) -> Tensor:
    """``activation(conv(x, weight, groups=C) + bias)`` in one pass.

    Args:
        x: [N, C, H, W], float32, float16, bfloat16 (computed in float32) or float64. channels_last memory is read as it
            is; anything else is converted first.
        weight: [C, 1, kh, kw], dtype of ``x``.
        bias: [C] or None.
        stride, padding, dilation: an int or (height, width).
        activation: none, silu, relu, relu6 or hardswish.

    Returns:
        [N, C, H', W'], channels_last if ``x`` was.

    Raises:
        ValueError: shapes or dtypes that do not fit; the text says what was expected and what came.

    Differentiable (once) with respect to ``x``, ``weight`` and ``bias``. Equivalent to
    ``activation(F.conv2d(x, weight, bias, stride, padding, dilation, groups=C))``.
    """
    arguments = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation"), activation
    y: Tensor = call(library.depthwise_conv2d, (nhwc(x), weight.contiguous(), bias), *arguments)
    return like_input(y, x)


@register_fake("depthwise_conv2d")
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    activation: str,
) -> Tensor:
    height, width = (
        output_size(x.shape[2 + d], weight.shape[2 + d], stride[d], padding[d], dilation[d]) for d in (0, 1)
    )
    return empty_nhwc(x, x.shape[1], height, width)


@register_fake("depthwise_conv2d_backward")
def _(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    activation: str,
    want_x: bool,
    want_weight: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        empty_nhwc(x, *x.shape[1:]) if want_x else x.new_empty(0),
        weight.new_empty(weight.shape) if want_weight else weight.new_empty(0),
        weight.new_empty(x.shape[1] if want_bias else 0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, *ctx.arguments = inputs
    ctx.save_for_backward(x, weight, bias)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    wanted = [
        bool(ctx.needs_input_grad[0]),
        bool(ctx.needs_input_grad[1]),
        bool(bias is not None and ctx.needs_input_grad[2]),
    ]
    gradients = library.depthwise_conv2d_backward(nhwc(gradient), x, weight, bias, *ctx.arguments, *wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), None, None, None, None


torch.library.register_autograd("leyolo::depthwise_conv2d", _backward, setup_context=_setup_context)

"""The whole inverted bottleneck (expand, depthwise, project) in one call."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo.ops._conv_common import activate, output_size
from leyolo.ops._library import call, library, register_fake
from leyolo.ops._memory_format import empty_nhwc, like_input, nhwc
from leyolo.ops.conv2d import conv2d
from leyolo.ops.depthwise_conv2d import depthwise_conv2d


def inverted_bottleneck_reference(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_bias: Tensor | None,
    *,
    stride: int = 1,
    activation: str = "silu",
    residual: bool = False,
) -> Tensor:
    """The same in plain torch."""
    y = x if expand_weight is None else activate(F.conv2d(x, expand_weight, expand_bias), activation)
    padding = depthwise_weight.shape[2] // 2
    y = F.conv2d(y, depthwise_weight, depthwise_bias, stride, padding, groups=len(depthwise_weight))
    y = F.conv2d(activate(y, activation), project_weight, project_bias)
    return y + x if residual else y


def inverted_bottleneck(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_bias: Tensor | None,
    *,
    stride: int = 1,
    activation: str = "silu",
    residual: bool = False,
) -> Tensor:
    """``project(act(depthwise(act(expand(x))))) [+ x]`` with BatchNorm folded into weights and biases.

    The inverted bottleneck of MobileNetV2 (Sandler et al. 2018). The expanded tensor never becomes a torch tensor.
    Where it, or the depthwise result, takes more than 1.5 times the second-level cache of a core (as the machine tells
    it: ``leyolo._C.cpu_features()["l2_bytes"]``), the block runs row by row: only windows of a few rows exist of the
    two, which take at most 0.75 of that cache. Otherwise, and where there are so many threads that more than a fifth of
    the rows would be expanded twice, it runs one convolution after the other. The result is the same to the bit.

    Args:
        x: [N, C, H, W], float32, float16 or bfloat16 (computed in float32); channels_last memory is read as it is.
        expand_weight: [M, C, 1, 1], or None: the depthwise convolution then reads ``x`` (M = C).
        expand_bias: [M] or None.
        depthwise_weight: [M, 1, k, k], k odd; padding is k // 2.
        depthwise_bias: [M] or None.
        project_weight: [O, M, 1, 1]; no activation follows.
        project_bias: [O] or None.
        stride: of the depthwise convolution.
        activation: after expand and depthwise: none, silu, relu, relu6 or hardswish.
        residual: add ``x``; needs stride 1 and O = C.

    Returns:
        [N, O, H', W'], channels_last if ``x`` was. Differentiable (once): the backward pass recomputes the block from
        ``x`` with the fused ops, so that only ``x`` and the weights are kept.
    """
    tensors = (expand_weight, expand_bias, depthwise_weight, depthwise_bias, project_weight, project_bias)
    contiguous = tuple(None if t is None else t.contiguous() for t in tensors)
    y: Tensor = call(library.inverted_bottleneck, (nhwc(x), *contiguous), stride, activation, residual)
    return like_input(y, x)


@register_fake("inverted_bottleneck")
def _(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_bias: Tensor | None,
    stride: int,
    activation: str,
    residual: bool,
) -> Tensor:
    kernel = depthwise_weight.shape[2]
    height, width = (output_size(size, kernel, stride, kernel // 2) for size in x.shape[2:])
    return empty_nhwc(x, project_weight.shape[0], height, width)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.stride, ctx.activation, ctx.residual = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:7]
    with torch.enable_grad():
        inputs = [
            None if t is None else t.detach().requires_grad_(want)
            for t, want in zip(ctx.saved_tensors, wanted, strict=True)
        ]
        x, expand_w, expand_b, depthwise_w, depthwise_b, project_w, project_b = inputs
        assert x is not None
        assert depthwise_w is not None
        assert project_w is not None
        y = x if expand_w is None else conv2d(x, expand_w, expand_b, activation=ctx.activation)
        padding = depthwise_w.shape[2] // 2
        y = depthwise_conv2d(y, depthwise_w, depthwise_b, stride=ctx.stride, padding=padding, activation=ctx.activation)
        y = conv2d(y, project_w, project_b, x if ctx.residual else None)
    leaves = [t for t in inputs if t is not None and t.requires_grad]
    gradients = iter(torch.autograd.grad(y, leaves, gradient))
    return *(next(gradients) if t is not None and t.requires_grad else None for t in inputs), None, None, None


torch.library.register_autograd("leyolo::inverted_bottleneck", _backward, setup_context=_setup_context)

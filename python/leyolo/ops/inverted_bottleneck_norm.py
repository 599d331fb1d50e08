"""The inverted bottleneck with batch norm, for training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo.ops._conv_common import activate, output_size
from leyolo.ops._library import call, library, register_fake
from leyolo.ops._memory_format import empty_nhwc, like_input, nhwc


class ConvNorm(NamedTuple):
    """A convolution and the batch norm behind it; what is None is left out. The running statistics change in place."""

    weight: Tensor
    bias: Tensor | None = None
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None
    running_mean: Tensor | None = None
    running_var: Tensor | None = None


def inverted_bottleneck_norm_reference(
    x: Tensor,
    expand: ConvNorm | None,
    depthwise: ConvNorm,
    project: ConvNorm,
    *,
    stride: int = 1,
    activation: str = "silu",
    residual: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """The same in plain torch."""

    def norm(z: Tensor, layer: ConvNorm, activation: str) -> Tensor:
        return activate(
            F.batch_norm(
                z, layer.running_mean, layer.running_var, layer.norm_weight, layer.norm_bias, True, momentum, eps
            ),
            activation,
        )

    y = x if expand is None else norm(F.conv2d(x, expand.weight, expand.bias), expand, activation)
    padding = depthwise.weight.shape[-1] // 2
    y = F.conv2d(y, depthwise.weight, depthwise.bias, stride, padding, groups=depthwise.weight.shape[0])
    y = norm(F.conv2d(norm(y, depthwise, activation), project.weight, project.bias), project, "none")
    return y + x if residual else y


def inverted_bottleneck_norm(
    x: Tensor,
    expand: ConvNorm | None,
    depthwise: ConvNorm,
    project: ConvNorm,
    *,
    stride: int = 1,
    activation: str = "silu",
    residual: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``norm(project(act(norm(depthwise(act(norm(expand(x))))))))``, ``+ x`` where ``residual``, as in training.

    The inverted bottleneck of MobileNetV2 (Sandler et al. 2018), each norm with the statistics of the batch. One
    operator forward and one backward: it keeps the outputs of the three convolutions alone, and makes what lies between
    them again where it is read.

    Args:
        x: [N, C, H, W], float32 (on CUDA also float16 or bfloat16), in either memory format; channels_last is not
            copied.
        expand: weight [M, C, 1, 1] and bias in the dtype of ``x``, weight and bias of the norm in float32; None: the
            depthwise convolution reads ``x`` (and M equals C).
        depthwise: weight [M, 1, k, k], padding k // 2.
        project: weight [O, M, 1, 1].
        stride: of the depthwise convolution, in both directions.
        activation: none, silu, relu, relu6 or hardswish, behind all but the last norm.
        residual: needs stride 1, an odd k and O equal to C.
        momentum: share of the batch in the new running statistics, whose variance counts without bias, as in torch.
        eps: added to the variance.

    Returns:
        [N, O, H', W'] in the memory format of ``x``.

    Raises:
        ValueError: shapes or dtypes that do not fit, or only one value per channel; the text says what was expected and
            what came.

    Differentiable (once) with respect to ``x``, weights and biases; the gradients of the convolutions' biases, which
    the norms take away again, are zero. Deterministic: the same bits for any number of threads.
    """
    layers = [layer for layer in (expand, depthwise, project) if layer is not None]
    for layer in layers:
        if (layer.running_mean is None) != (layer.running_var is None):
            raise ValueError("inverted_bottleneck_norm: running_mean and running_var must be given both or not at all")
    absent = ConvNorm(x)  # whose weight is not taken
    every = [(absent if layer is None else layer) for layer in (expand, depthwise, project)]
    convolutions = [t for layer in every for t in (None if layer is absent else layer.weight.contiguous(), layer.bias)]
    norms = [t for layer in every for t in (layer.norm_weight, layer.norm_bias)]
    inputs = (nhwc(x), *convolutions, *norms)
    y, _, z, _, statistics = call(library.inverted_bottleneck_norm, inputs, stride, activation, residual, eps)
    with torch.no_grad():
        parts = statistics.split([layer.weight.shape[0] for layer in layers], 1)
        for layer, (mean, variance) in zip(layers, parts, strict=True):
            if layer.running_mean is None or layer.running_var is None:
                continue
            size = x.shape if layer is expand else z.shape
            count = size[0] * size[2] * size[3]
            layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), momentum)
            layer.running_var.lerp_((variance * (count / (count - 1))).to(layer.running_var.dtype), momentum)
    return like_input(y, x)


@register_fake("inverted_bottleneck_norm")
def _(
    x: Tensor,
    expand_weight: Tensor | None,
    expand_bias: Tensor | None,
    depthwise_weight: Tensor,
    depthwise_bias: Tensor | None,
    project_weight: Tensor,
    project_bias: Tensor | None,
    weight1: Tensor | None,
    bias1: Tensor | None,
    weight2: Tensor | None,
    bias2: Tensor | None,
    weight3: Tensor | None,
    bias3: Tensor | None,
    stride: int,
    activation: str,
    residual: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    middle, out, kernel = depthwise_weight.shape[0], project_weight.shape[0], depthwise_weight.shape[2]
    size = [output_size(s, kernel, stride, kernel // 2) for s in x.shape[2:]]
    return (
        empty_nhwc(x, out, *size),
        x.new_empty(0) if expand_weight is None else empty_nhwc(x, middle, *x.shape[2:]),
        empty_nhwc(x, middle, *size),
        empty_nhwc(x, out, *size),
        x.new_empty(2, middle * (1 if expand_weight is None else 2) + out, dtype=torch.float32),
    )


@register_fake("inverted_bottleneck_norm_backward")
def _(
    gradient: Tensor,
    x: Tensor,
    expand_weight: Tensor | None,
    depthwise_weight: Tensor,
    project_weight: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        empty_nhwc(x, *x.shape[1:]),
        x.new_empty(0 if expand_weight is None else expand_weight.shape),
        torch.empty_like(depthwise_weight),
        torch.empty_like(project_weight),
        torch.empty_like(rest[9]),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    x, expand, _, depthwise, _, project, _, *norms = inputs[:13]
    ctx.biases = [None if b is None else b.shape[0] for b in inputs[2:7:2]]
    ctx.arguments = inputs[13:]
    ctx.save_for_backward(x, expand, depthwise, project, *norms, *output[1:])


def _backward(ctx: Any, gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:13]
    if gradient is None:
        return (None,) * 17
    x, expand, depthwise, project, *rest = ctx.saved_tensors
    gx, ge, gd, gp, norms = library.inverted_bottleneck_norm_backward(
        nhwc(gradient), x, expand, depthwise, project, *rest, *ctx.arguments
    )
    widths = [depthwise.shape[0]] * (1 if expand is None else 2) + [project.shape[0]]
    of_norms = [part for pair in zip(*(half.split(widths) for half in norms), strict=True) for part in pair]
    if expand is None:
        of_norms = [None, None, *of_norms]
    b1, b2, b3 = (None if n is None else x.new_zeros(n) for n in ctx.biases)
    found = (gx, ge, b1, gd, b2, gp, b3, *of_norms)
    return *(g if need else None for g, need in zip(found, needed, strict=True)), None, None, None, None


torch.library.register_autograd("leyolo::inverted_bottleneck_norm", _backward, setup_context=_setup_context)

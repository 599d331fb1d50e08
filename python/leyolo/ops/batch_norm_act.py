"""Batch norm fused with an activation, for training and for running statistics."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leyolo.ops._conv_common import activate
from leyolo.ops._library import call, library, register_fake
from leyolo.ops._memory_format import dense, empty_nhwc, like_input


def batch_norm_act_reference(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str = "none",
) -> Tensor:
    """The same in plain torch."""
    return activate(F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps), activation)


def batch_norm_act(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str = "none",
) -> Tensor:
    """``activation(F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps))``.

    Neither the normalised map nor a mask is kept for the backward pass: it reads ``x`` again.

    Args:
        x: [N, C, H, W], float32, float16, bfloat16 (computed in float32) or float64. On the CPU row-major
            and channels_last memory are read as they are, on CUDA channels_last; anything else is converted first.
        weight, bias: [C] or None, in any floating dtype.
        running_mean, running_var: [C] or None; changed in place when ``training``, where the variance of the batch
            counts without bias, as in torch.
        training: whether the statistics are those of the batch. Without running statistics they always are.
        momentum: share of the batch in the new running statistics.
        eps: added to the variance.
        activation: none, silu, relu, relu6 or hardswish.

    Returns:
        As ``x``, row-major unless ``x`` is channels_last.

    Raises:
        ValueError: shapes or dtypes that do not fit, or only one value per channel in training; the text says what was
            expected and what came.

    Differentiable (once) with respect to ``x``, ``weight`` and ``bias``. Deterministic: the same bits for any number of
    threads.
    """
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm_act: running_mean and running_var must be given both or not at all")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    weight, bias = (t if t is None else t.to(dtype) for t in (weight, bias))
    if running_mean is None or running_var is None or training:
        y, mean, variance = call(library.batch_norm_act, (dense(x), weight, bias, None, None), eps, activation)
        if running_mean is not None and running_var is not None and x.numel():  # nothing has no statistics
            count = x.numel() // x.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    else:
        given = running_mean.to(dtype), running_var.to(dtype)
        y, _, _ = call(library.batch_norm_act, (dense(x), weight, bias, *given), eps, activation)
    return like_input(y, x)


def _empty_map(x: Tensor) -> Tensor:
    return (
        empty_nhwc(x, *x.shape[1:])
        if x.is_contiguous(memory_format=torch.channels_last)
        else torch.empty_like(x, memory_format=torch.contiguous_format)
    )


@register_fake("batch_norm_act")
def _(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    eps: float,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    channels = x.shape[1] if mean is None else 0
    return (
        _empty_map(x),
        x.new_empty(channels, dtype=dtype),
        x.new_empty(channels, dtype=dtype),
    )


@register_fake("batch_norm_act_backward")
def _(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    activation: str,
    training: bool,
    want_x: bool,
    want_weight: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (
        _empty_map(x) if want_x else x.new_empty(0),
        x.new_empty(x.shape[1] if want_weight else 0, dtype=dtype),
        x.new_empty(x.shape[1] if want_bias else 0, dtype=dtype),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, mean, variance, *ctx.arguments = inputs
    ctx.training = mean is None
    _, batch_mean, batch_variance = output
    ctx.mark_non_differentiable(batch_mean, batch_variance)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, *((batch_mean, batch_variance) if ctx.training else (mean, variance)))


def _backward(ctx: Any, gradient: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 7
    x, weight, bias, mean, variance = ctx.saved_tensors
    wanted = [bool(w and t is not None) for w, t in zip(ctx.needs_input_grad[:3], (x, weight, bias), strict=True)]
    if not x.numel():  # and there are no statistics of a batch
        zeros = (t.new_zeros(t.shape) if want else None for t, want in zip((x, weight, bias), wanted, strict=True))
        return *zeros, None, None, None, None
    gradients = library.batch_norm_act_backward(
        like_input(gradient, x), x, weight, bias, mean, variance, *ctx.arguments, ctx.training, *wanted
    )
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), None, None, None, None


torch.library.register_autograd("leyolo::batch_norm_act", _backward, setup_context=_setup_context)

"""Convolution with batch norm, the inverted bottleneck, SPPF, and the two layers of the neck that have no weights.

Every module takes [B, C, H, W] in either memory format and keeps it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm2d):
    """Batch norm with LeYOLO's eps 1e-3 and momentum 0.03, and without torch's ``num_batches_tracked``.

    With a fixed momentum nothing reads that counter; it would cost one tiny kernel per layer and step and an int64
    tensor per layer in every file.
    """

    MOMENTUM = 0.03

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=self.MOMENTUM)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # The parent would add the counter to a state dict that lacks it, and then report it as unexpected.
        nn.Module._load_from_state_dict(self, *args, **kwargs)


class ConvBNAct(nn.Module):
    """Convolution (padding k // 2), batch norm unless ``norm`` is off, SiLU unless ``activation`` is off.

    With ``fused_training`` set, training mode takes leyolo's operators: the depthwise convolution where it is the
    faster one, and batch norm with the activation in one pass each way. The results agree within rounding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        bias: bool = False,
        norm: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if norm:
            self.bn: nn.Module = BatchNorm(out_channels)
        else:
            self.register_module("bn", None)
        self.activation = activation
        self.fused_training = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fused_training and self.training and type(self.bn) is BatchNorm and self.bn.training:
            return self._fused(x, self.bn)
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        # In place only where autograd does not need the input (it would save a copy of it).
        return F.silu(x, inplace=not x.requires_grad) if self.activation else x

    def _fused(self, x: Tensor, bn: BatchNorm) -> Tensor:
        from leyolo.ops import batch_norm_act, depthwise_conv2d  # needs the library; only training asks for it

        conv = self.conv
        # On a CPU our 5x5 shortens a training step, our 3x3, which waits for memory, does not (docs/performance.md).
        ours = x.is_cuda or conv.kernel_size[0] > 3
        if ours and conv.groups == conv.in_channels == conv.out_channels:
            weight, bias = conv.weight, conv.bias
            if torch.is_autocast_enabled(x.device.type):  # torch's own convolutions cast by themselves
                dtype = torch.get_autocast_dtype(x.device.type)
                x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
            x = depthwise_conv2d(x, weight, bias, stride=conv.stride, padding=conv.kernel_size[0] // 2)
        else:
            x = conv(x)
        return batch_norm_act(
            *(x, bn.weight, bn.bias, bn.running_mean, bn.running_var),
            training=True, momentum=bn.momentum or 0.0, eps=bn.eps, activation="silu" if self.activation else "none",
        )  # fmt: skip

    @torch.no_grad()
    def fold(self) -> None:
        """Moves the batch norm into the convolution, for inference. Computed in float64, rounded once."""
        bn, conv = self.bn, self.conv
        if not isinstance(bn, BatchNorm):
            return
        assert bn.running_mean is not None
        assert bn.running_var is not None
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        shift = bn.bias.double() - bn.running_mean.double() * scale
        if conv.bias is not None:
            shift = shift + conv.bias.double() * scale
        weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
        conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=conv.weight.requires_grad)
        conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=conv.weight.requires_grad)
        self.register_module("bn", None)


class InvertedBottleneck(nn.Module):
    """1x1 expansion (left out if ``expansion`` is off), depthwise k x k, 1x1 projection without activation.

    The input is added where stride is 1 and the channels agree. Without expansion ``expand`` equals ``in_channels``.
    With ``fused_training`` set, training mode takes leyolo's operator for the whole block: on the CPU in float32, on
    CUDA under autocast, and in float32 where TF32 is not allowed.
    """

    fused_training = False

    def __init__(
        self, in_channels: int, expand: int, out_channels: int, kernel: int, stride: int = 1, *, expansion: bool = True
    ) -> None:
        super().__init__()
        if expansion:
            self.expand: nn.Module = ConvBNAct(in_channels, expand, bias=True)
        elif expand == in_channels:
            self.register_module("expand", None)
        else:
            raise ValueError(f"without an expansion expand should equal in_channels = {in_channels}, got {expand}")
        self.depthwise = ConvBNAct(expand, expand, kernel, stride, groups=expand, bias=True)
        self.project = ConvBNAct(expand, out_channels, bias=True, activation=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.fused_training and self.training and self._fits(x):
            return self._fused(x)
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return y + x if self.residual else y

    def _layers(self) -> list[ConvBNAct]:
        return [layer for layer in (self.expand, self.depthwise, self.project) if isinstance(layer, ConvBNAct)]

    @staticmethod
    def _dtype(kind: str) -> torch.dtype:
        """That convolutions compute in."""
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32

    def _fits(self, x: Tensor) -> bool:
        """Whether the operator takes it, and nobody has changed what a layer does: no norm is frozen, replaced or of
        other settings than the others, and no hook waits for what lies in between."""
        layers = self._layers()
        norms: list[Any] = [layer.bn for layer in layers]
        kind = x.device.type
        half = kind == "cuda" and x.dtype in (torch.float16, torch.bfloat16)
        # Where TF32 is allowed torch's 1x1 convolutions have tensor cores in float32, the operator has none.
        exact = x.dtype == torch.float32 and (kind == "cpu" or (kind == "cuda" and not torch.backends.cudnn.allow_tf32))
        return (
            (half or exact)
            and x.dtype == self._dtype(kind)
            and x.numel() > 0
            and all(t.dtype == torch.float32 for t in self.parameters())
            and all(type(bn) is BatchNorm and bn.training for bn in norms)
            and {(bn.momentum, bn.eps) for bn in norms} == {(norms[0].momentum or 0.0, norms[0].eps)}
            and [layer.activation for layer in layers] == [True] * (len(layers) - 1) + [False]
            and not any(m._forward_hooks or m._forward_pre_hooks for m in self.modules() if m is not self)
        )

    def _fused(self, x: Tensor) -> Tensor:
        from leyolo.ops import ConvNorm, inverted_bottleneck_norm  # needs the library; only training asks for it

        dtype = self._dtype(x.device.type)

        def layer(module: Any) -> ConvNorm:
            conv, bn = module.conv, module.bn
            bias = None if conv.bias is None else conv.bias.to(dtype)
            return ConvNorm(conv.weight.to(dtype), bias, bn.weight, bn.bias, bn.running_mean, bn.running_var)

        bn: Any = self.depthwise.bn
        return inverted_bottleneck_norm(
            x,
            *(None if self.expand is None else layer(self.expand), layer(self.depthwise), layer(self.project)),
            stride=self.depthwise.conv.stride[0], residual=self.residual, momentum=bn.momentum, eps=bn.eps,
        )  # fmt: skip


class SPPF(nn.Module):
    """1x1 to ``hidden`` channels, three chained stride-1 max pools, all four maps concatenated, 1x1."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel: int = 5) -> None:
        super().__init__()
        self.reduce = ConvBNAct(in_channels, hidden)
        self.merge = ConvBNAct(4 * hidden, out_channels)
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.reduce(x)]
        for _ in range(3):
            maps.append(F.max_pool2d(maps[-1], self.kernel, 1, self.kernel // 2))
        merged: Tensor = self.merge(torch.cat(maps, 1))
        return merged


class Upsample(nn.Module):
    """Twice the size, nearest neighbour."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Concat(nn.Module):
    """Channels of all inputs, in order."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, 1)

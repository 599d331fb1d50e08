"""The networks in torch: one builder for all sizes and heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leyolo.models.config import IMAGE, Layer, ModelConfig, check_head, lookup
from leyolo.nn import SPPF, Concat, ConvBNAct, InvertedBottleneck, LeYOLOHead, Upsample, YOLOXHead


class LeYOLONet(nn.Module):
    """LeYOLO as a torch module; use :func:`build` to make one.

    Takes x [B, 3, H, W], RGB in 0..1, sides divisible by 32, in either memory format (channels_last saves copies), and
    returns logits [B, A, 4 * reg_max + C], or [B, A, 4 + 1 + C] with the yolox head. The anchors come level by level in
    stride order, each level row by row.
    """

    def __init__(self, config: ModelConfig, num_classes: int, head: str, head_width: int | None) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes should be at least 1, got {num_classes}")
        self.config = config
        self.num_classes = num_classes
        self.head_name = check_head(head)
        self.head_width = config.default_head_width(num_classes, head) if head_width is None else head_width
        self.layers = nn.ModuleList(map(_module, config.layers))
        if head == "yolox":
            self.head: nn.Module = YOLOXHead(config.head_channels, num_classes, self.head_width)
        else:
            self.head = LeYOLOHead(
                config.head_channels, num_classes, config.box_width, self.head_width, config.strides, config.reg_max
            )
        # The last reader of each map, so that a map is freed as soon as nobody needs it.
        self._last_reader = {i: index for index, layer in enumerate(config.layers) for i in layer.inputs}
        self._last_reader.update(dict.fromkeys(config.head_inputs, len(config.layers)))

    def forward(self, x: Tensor) -> Tensor:
        coarsest = self.config.strides[-1]
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % coarsest or x.shape[3] % coarsest:
            raise ValueError(
                f"x should be [B, 3, H, W] with H and W divisible by {coarsest}, got {list(map(int, x.shape))}"
            )
        if not x.is_floating_point():
            raise ValueError(f"x should hold floating-point values in 0..1, got {x.dtype}")
        used, last_reader = self.config.used, self._last_reader
        maps = {IMAGE: x}
        for index, (layer, module) in enumerate(zip(self.config.layers, self.layers, strict=True)):
            if index in used:
                maps[index] = module(*[maps[i] for i in layer.inputs])
                for i in layer.inputs:
                    if last_reader[i] == index:
                        maps.pop(i)
        logits: Tensor = self.head([maps[i] for i in self.config.head_inputs])
        return logits

    def fold(self) -> LeYOLONet:
        """Moves every batch norm into its convolution, in place, for inference; returns the network itself."""
        for module in self.modules():
            if isinstance(module, ConvBNAct):
                module.fold()
        return self

    def fuse_training_ops(self, on: bool = True) -> LeYOLONet:
        """Chooses what training mode runs on: leyolo's fused operators (see :class:`ConvBNAct` and
        :class:`InvertedBottleneck`) or plain torch; returns the network itself. ImportError where the operators were
        not built."""
        if on:
            import leyolo.ops  # noqa: F401
        for module in self.modules():
            if isinstance(module, ConvBNAct | InvertedBottleneck):
                module.fused_training = on
        return self

    def extra_repr(self) -> str:
        return f"leyolo-{self.config.size}, num_classes={self.num_classes}, head={self.head_name!r}"


def _module(layer: Layer) -> nn.Module:
    if layer.kind == "conv":
        return ConvBNAct(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, bias=True)
    if layer.kind == "bottleneck":
        channels = (layer.in_channels, layer.expand, layer.out_channels)
        return InvertedBottleneck(*channels, layer.kernel, layer.stride, expansion=layer.has_expansion)
    if layer.kind == "sppf":
        return SPPF(layer.in_channels, layer.expand, layer.out_channels, layer.kernel)
    return Upsample() if layer.kind == "upsample" else Concat()


def build(
    size: str,
    num_classes: int = 80,
    head: str = "leyolo",
    *,
    head_width: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LeYOLONet:
    """A freshly initialised network, in channels_last.

    size        "n", "s", "m", "l" or any other name of a size ("leyolo-n", "nano", …)
    head        "leyolo" or "yolox"
    head_width  hidden channels of the class branch (leyolo) or of the whole head (yolox); None: the default of the size
    Raises ValueError for a name or number that is none of these.
    """
    network = LeYOLONet(lookup(size), num_classes, head, head_width)
    options: dict[str, Any] = {"device": device, "dtype": dtype, "memory_format": torch.channels_last}
    return network.to(**options)

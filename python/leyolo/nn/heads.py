"""The two heads. Both give logits anchor by anchor: levels in stride order, each level row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leyolo.nn.blocks import ConvBNAct


def _rows(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H*W, C]; a view where the memory is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _join(levels: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Box and class maps of every level to logits [B, A, box channels + C]."""
    return torch.cat([torch.cat([_rows(box), _rows(cls)], 2) for box, cls in levels], 1)


def _predictor(width: int, bias: Tensor) -> ConvBNAct:
    """The last 1x1 convolution of a branch, its bias starting at ``bias``."""
    module = ConvBNAct(width, len(bias), bias=True, norm=False, activation=False)
    module.conv.bias = nn.Parameter(bias.clone())
    return module


class LeYOLOHead(nn.Module):
    """The head of LeYOLO: per level a box branch and a class branch of 1x1, depthwise 3x3 twice, 1x1.

    Takes one map per level and returns logits [B, A, 4 * reg_max + C]: for each side (left, top, right, bottom) a
    distribution over ``reg_max`` distances in cells, then the class logits.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        box_width: int,
        class_width: int,
        strides: Sequence[int],
        reg_max: int,
    ) -> None:
        super().__init__()
        self.box = nn.ModuleList()
        self.cls = nn.ModuleList()
        for channels, stride in zip(in_channels, strides, strict=True):
            # Five objects per 640-pixel image, of any class, spread over all cells of the level.
            prior = math.log(5 / num_classes / (640 / stride) ** 2)
            self.box.append(self._branch(channels, box_width, torch.full((4 * reg_max,), 1.0)))
            self.cls.append(self._branch(channels, class_width, torch.full((num_classes,), prior)))

    @staticmethod
    def _branch(in_channels: int, width: int, bias: Tensor) -> nn.Sequential:
        return nn.Sequential(
            ConvBNAct(in_channels, width),
            ConvBNAct(width, width, 3, groups=width),
            ConvBNAct(width, width, 3, groups=width),
            _predictor(width, bias),
        )

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Box map [B, 4 * reg_max, h, w] and class map [B, C, h, w] of every level, as the convolutions give them."""
        return [(box(x), cls(x)) for box, cls, x in zip(self.box, self.cls, maps, strict=True)]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return _join(self.levels(maps))


class YOLOXHead(nn.Module):
    """YOLOX's decoupled head: per level a 1x1 stem, then two 3x3 convolutions for boxes and two for classes.

    Takes one map per level and returns logits [B, A, 4 + 1 + C]: box regression, objectness (both from the box stack,
    one convolution), classes. ``width`` is 256 times YOLOX's width factor.
    Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", section 2.1.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.ModuleList(ConvBNAct(channels, width) for channels in in_channels)
        prior = -math.log(99.0)  # a probability of 0.01
        box_bias = torch.tensor([0.0, 0.0, 0.0, 0.0, prior])
        self.box = nn.ModuleList(self._stack(width, box_bias) for _ in in_channels)
        self.cls = nn.ModuleList(self._stack(width, torch.full((num_classes,), prior)) for _ in in_channels)

    @staticmethod
    def _stack(width: int, bias: Tensor) -> nn.Sequential:
        return nn.Sequential(ConvBNAct(width, width, 3), ConvBNAct(width, width, 3), _predictor(width, bias))

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Box and objectness map [B, 4 + 1, h, w] and class map [B, C, h, w] of every level."""
        stems = [stem(x) for stem, x in zip(self.stem, maps, strict=True)]
        return [(box(x), cls(x)) for box, cls, x in zip(self.box, self.cls, stems, strict=True)]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return _join(self.levels(maps))

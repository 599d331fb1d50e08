"""The building blocks of LeYOLO as torch modules."""

from __future__ import annotations

from leyolo.nn.blocks import SPPF, BatchNorm, Concat, ConvBNAct, InvertedBottleneck, Upsample
from leyolo.nn.heads import LeYOLOHead, YOLOXHead

__all__ = [
    "SPPF",
    "BatchNorm",
    "Concat",
    "ConvBNAct",
    "InvertedBottleneck",
    "LeYOLOHead",
    "Upsample",
    "YOLOXHead",
]

"""The fused forward pass: BatchNorm folded, weights packed, steps over one arena. Torch is not imported here."""

from __future__ import annotations

from leyolo.runtime.engine import Engine
from leyolo.runtime.program import Program

__all__ = ["Engine", "Program"]

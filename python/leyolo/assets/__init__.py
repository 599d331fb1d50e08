"""The weights and the picture that ship inside the package."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).parent

DEFAULT = "leyolo-n-shapes"
"""What the commands run on where no weights are named; it knows the objects of ``leyolo data shapes`` alone."""
NOTE = f"{DEFAULT}, the weights inside the package: they know drawn shapes only (--model names others)"

PACKAGED = {path.stem: path for path in sorted(_ASSETS.glob("*.safetensors"))}
"""Weights by name."""

SAMPLE = _ASSETS / "shapes.jpg"
"""A picture of ``leyolo data shapes`` that no weights were trained on."""

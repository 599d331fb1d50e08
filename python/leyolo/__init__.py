"""LeYOLO on C++/CUDA kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leyolo.model import LeYOLO as LeYOLO

__version__ = "0.1.0"

__all__ = ["LeYOLO", "__version__"]


def __getattr__(name: str) -> Any:
    """``leyolo.LeYOLO``, imported when it is first asked for, so that ``import leyolo`` costs nothing."""
    if name == "LeYOLO":
        from leyolo.model import LeYOLO

        return LeYOLO
    raise AttributeError(f"module 'leyolo' has no attribute '{name}'")

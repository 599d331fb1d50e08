"""Finds and loads the torch operators, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def _load() -> Any:
    import leyolo._C

    # In an editable install the libraries lie in site-packages and the Python files in the source tree.
    folders = [Path(leyolo._C.__file__).parent, Path(__file__).parent.parent]
    for folder in folders:
        path = folder / "libleyolo_torch.so"
        if path.exists():
            torch.ops.load_library(str(path))
            return torch.ops.leyolo
    raise ImportError(
        "leyolo was built without its torch operators (no torch >= 2.11 was found at build time). "
        "Install torch, then build leyolo again: pip install --force-reinstall --no-deps leyolo"
    )


library = _load()
"""``torch.ops.leyolo``, loaded."""

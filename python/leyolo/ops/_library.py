"""Finds and loads the torch operators, once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

import leyolo._C


def _load() -> Any:
    # In an editable install the libraries lie in site-packages and the Python files in the source tree.
    folders = [Path(leyolo._C.__file__).parent, Path(__file__).parent.parent]
    for folder in folders:
        path = folder / "libleyolo_torch.so"
        if path.exists():
            torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
            return torch.ops.leyolo
    raise ImportError(
        "leyolo was built without its torch operators (no torch >= 2.11 was found at build time). "
        "Install torch, then build leyolo again: pip install --force-reinstall --no-deps leyolo"
    )


library = _load()
"""``torch.ops.leyolo``, loaded."""


def on_cuda(device: torch.device) -> bool:
    """Whether tensors of ``device`` go to the CUDA kernels; in their test build, which runs them on the CPU, all do."""
    return device.type == "cuda" or _SHIM


_SHIM = str(leyolo._C.build_info()["cuda"]).startswith("shim")

F = TypeVar("F", bound=Callable[..., Any])


def register_fake(name: str) -> Callable[[F], F]:
    """``torch.library.register_fake("leyolo::name")``, with types."""
    register: Callable[[F], F] = torch.library.register_fake(f"leyolo::{name}")
    return register


def needs_grad(*tensors: Tensor | None) -> bool:
    """Whether autograd must see the call. While compiling always: the compiler drops what is not needed."""
    return torch.compiler.is_compiling() or (
        torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    )


_below_autograd: Any = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)


def call(op: Any, tensors: tuple[Tensor | None, ...], *rest: Any) -> Any:
    """Calls ``op(*tensors, *rest)``; without a gradient to record, below the autograd layer (half the call's cost)."""
    if needs_grad(*tensors):
        return op(*tensors, *rest)
    with _below_autograd():
        return op(*tensors, *rest)

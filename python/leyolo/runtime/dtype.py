"""In which type the maps of the network are stored on the CPU."""

from __future__ import annotations

import warnings
from typing import Literal

import leyolo._C as C

Dtype = Literal["float32", "bfloat16", "float16", "tf32"]
"""float16, and tf32 (float32 maps, dense convolutions multiplied in TF32): on CUDA only."""


def usable(dtype: str, *, stacklevel: int = 3) -> Dtype:
    """The type that will be used: bfloat16 falls back to float32, with a warning, where the CPU lacks its dot product.

    Args:
        dtype: "float32", "bfloat16" or "bf16"; ValueError otherwise.
        stacklevel: whose line the warning names; 3: that of the caller's caller.
    """
    if dtype == "float32":
        return "float32"
    if dtype not in ("bfloat16", "bf16"):
        raise ValueError(f"dtype must be float32 or bfloat16 (bf16), got {dtype!r}")
    if C.cpu_features()["bf16_dot"]:
        return "bfloat16"
    warnings.warn(
        "bfloat16 needs a CPU with AVX512-BF16, which is missing here or switched off by LEYOLO_ISA: "
        "running in float32",
        stacklevel=stacklevel,
    )
    return "float32"

"""How much memory a run holds, and keeping that from growing."""

from __future__ import annotations

import ctypes
import math
import sys
from functools import cache
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
_LARGEST_KEPT = 32 * 2**20
"""Bytes. To keep larger blocks too would save another twentieth of a step, and take a tenth more memory."""


def peak_memory() -> float:
    """The most memory that this process has held, in MB; of the GPU where one is used. NaN where no one can say."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    if resource is None:
        return math.nan
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def trim() -> None:
    """Gives free pages inside glibc's heap back to the system; nothing elsewhere.

    The maps of a step are freed in another order than they came, with small tensors in between that live on. The heap
    then has holes, and grows: in a hundred steps by half of what a step needs.
    """
    function = _glibc("malloc_trim")
    if function is not None:
        function(0)


def keep_blocks() -> None:
    """Lets glibc keep freed memory for the next allocation, in this process and from now on; nothing elsewhere.

    Otherwise the heap's end goes back to the system whenever it is free, and the same pages are mapped and cleared
    again in every step: a tenth of its time.
    """
    function = _glibc("mallopt")
    if function is not None:
        function(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        function(_M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

"""How much memory a run holds, and keeping that from growing."""

from __future__ import annotations

import ctypes
import resource
import sys
from functools import lru_cache
from typing import Any

import torch


def peak_memory() -> float:
    """The most memory that this process has held, in MB; of the GPU where one is used."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def trim() -> None:
    """Gives free pages inside glibc's heap back to the system; nothing elsewhere.

    The maps of a step are freed in another order than they came, with small tensors in between that live on. The heap
    then has holes, and grows: in a hundred steps by half of what a step needs.
    """
    function = _malloc_trim()
    if function is not None:
        function(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

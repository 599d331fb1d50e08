"""What several op tests share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
ACTIVATIONS = ["none", "silu", "relu", "relu6", "hardswish"]

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def opcheck(op: Any, *args: Any) -> None:
    """All of torch's checks of a custom operator."""
    torch.library.opcheck(op, args, test_utils=OPCHECKS)


def compiled_equals_eager(function: Any, *args: Any, **kwargs: Any) -> None:
    """The function compiles without a graph break and gives the same bits."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for ours, expected in zip(_leaves(compiled(*args, **kwargs)), _leaves(function(*args, **kwargs)), strict=True):
        assert torch.equal(ours, expected)


def _leaves(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [leaf for item in value for leaf in _leaves(item)]


def channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


def param(*values: Any) -> Any:
    return pytest.param(*values, id="-".join(str(v).replace("torch.", "") for v in values))

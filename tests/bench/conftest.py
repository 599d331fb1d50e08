"""Models for the benchmarks, and child processes that lack packages or misbehave."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from leyolo import weights
from leyolo.bench.random_weights import random_checkpoint


@pytest.fixture(scope="session")
def checkpoint() -> weights.Checkpoint:
    return random_checkpoint("n", 3)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes every runtime's process run a piece of Python before it answers orders."""

    def prepare(code: str) -> None:
        code = f"{code}\nfrom leyolo.bench.runtimes.__main__ import main\nmain()"
        real: Any = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", lambda args, **rest: real([args[0], "-c", code], **rest))

    return prepare

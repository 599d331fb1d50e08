"""The command in this process, on a model with known answers; and in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import leyolo
from leyolo.cli import main

BOX = [0, 0, 48, 32]
"""What the stand-in model finds in the test picture at imgsz 96."""


def _engine(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A 32-pixel cell with a bright centre answers "class 0, one stride to each side"."""
    batch, height, width, _ = x.shape
    cells = (height // 32) * (width // 32)
    logits = np.full((batch, cells, 4 * 4 + 3), -20, np.float32)
    logits[..., :16].reshape(batch, cells, 4, 4)[..., 1] = 20
    logits[..., 16] = np.where(x[:, 16::32, 16::32, 0].reshape(batch, cells) > 0.9, 3, -20)
    return logits


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for every model, and a working directory for the run folders."""
    names = {0: "cell", 1: "dot", 2: "ring"}
    checkpoint = SimpleNamespace(size="n", num_classes=3, names=names, head="leyolo", strides=(32,))
    monkeypatch.setattr("leyolo.predict.backends.load_weights", lambda model: checkpoint)
    monkeypatch.setattr("leyolo.predict.backends.engine", lambda checkpoint, device, dtype, **options: _engine)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "a.png", size: tuple[int, int] = (64, 96)) -> Path:
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[:32, :32] = 255
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return make


class Outcome(SimpleNamespace):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``leyolo …`` here: exit code, stdout, stderr."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        text = capsys.readouterr()
        return Outcome(code=code, out=text.out, err=text.err)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs ``python …`` in a process of its own, with this leyolo."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        folder = str(Path(leyolo.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [sys.executable, *map(str, arguments)],
            **{"capture_output": True, "timeout": 120, "cwd": tmp_path, "env": environment, **options},
        )

    return call


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a nano model with three classes that mean nothing, in our format."""
    from leyolo import weights
    from leyolo.models.config import CONFIGS
    from leyolo.models.layout import state_shapes

    rng = np.random.default_rng(0)
    state = {}
    for name, shape in state_shapes(CONFIGS["n"], 3).items():
        value = np.ones(shape) if name.endswith("running_var") else rng.normal(0, 0.05, shape)
        state[name] = value.astype(np.float32)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    checkpoint = weights.Checkpoint(size="n", num_classes=3, names={0: "cell", 1: "dot", 2: "ring"}, state=state)
    weights.save(path, checkpoint)
    return path

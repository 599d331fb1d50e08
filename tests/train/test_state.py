"""The state file: everything comes back, and nothing that happens to it is believed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from leyolo.errors import InputError
from leyolo.models.network import build
from leyolo.train import state
from leyolo.train.optimizer import averaged, make_optimizer
from leyolo.train.settings import make

ABOUT = {
    "settings": {}, "names": ["a"], "size": "n", "head": "leyolo", "head_width": 80, "metadata": {}, "world": 1,
    "pictures": 8,
}  # fmt: skip


def _parts(name: str = "adamw", seed: int = 0) -> state.Parts:
    torch.manual_seed(seed)
    network = build("n", 1)
    optimizer = make_optimizer(network, make({"data": "d", "optimizer": name}))
    return state.Parts(network, averaged(network, 0.99, 100), optimizer, torch.amp.GradScaler("cpu", enabled=False))


def _step(parts: state.Parts) -> None:
    for parameter in parts.network.parameters():
        parameter.grad = torch.randn_like(parameter)
    parts.optimizer.step()
    parts.ema.update_parameters(parts.network)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_all_of_it_comes_back(tmp_path: Path, name: str) -> None:
    """After restoring, further steps are the same to the bit, and so are the random numbers."""
    path = tmp_path / "state.safetensors"
    parts, other = _parts(name), _parts(name, seed=1)
    _step(parts)
    _step(parts)
    progress = state.Progress(3, 2, 17, [1.0, 2.0], 0.5, 1, [{"epoch": 1.0}])
    state.write(path, parts, progress, ABOUT)
    read = state.read(path)
    assert read.progress == progress
    state.restore(path, read, other)
    for each in (parts, other):
        torch.set_rng_state(read.tensors["rng.cpu"])
        _step(each)
    for kind in ("network", "ema"):
        one, two = (getattr(each, kind).state_dict() for each in (parts, other))
        assert all(torch.equal(one[key], two[key]) for key in one)
    for p, q in zip(parts.network.parameters(), other.network.parameters(), strict=True):
        assert p.stride() == q.stride()
        for key, value in parts.optimizer.state[p].items():
            assert torch.equal(value, other.optimizer.state[q][key]), key
            assert value.stride() == other.optimizer.state[q][key].stride()


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Twenty processes are killed at random moments while they save without pause; the file is always whole."""
    path = tmp_path / "state.safetensors"
    network = torch.nn.Conv2d(64, 64, 25)  # ten megabytes
    optimizer = torch.optim.SGD(network.parameters())
    parts = state.Parts(network, network, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    moments = random.Random(0)
    for attempt in range(20):
        saved, done = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for epoch in range(1000):
                    state.write(path, parts, state.Progress(epoch=1000 * attempt + epoch), ABOUT)
                    os.write(done, b".")
            finally:
                os._exit(0)
        os.close(done)
        assert os.read(saved, 1) == b"."  # the first one, however slow the machine is
        time.sleep(moments.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(saved)
        read = state.read(path)
        assert read.progress.epoch // 1000 == attempt
        assert torch.equal(read.tensors["model.weight"], network.weight)


def _damaged(data: bytes, how: str) -> bytes:
    if how == "cut":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "noise":
        return bytes(random.Random(0).randrange(256) for _ in range(4096))
    return data[:8] + b"[" * 2000 + data[2008:]


@pytest.mark.parametrize("how", ["cut", "empty", "noise", "nested"])
def test_damage_is_said(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state.safetensors"
    state.write(path, _parts(), state.Progress(), ABOUT)
    path.write_bytes(_damaged(path.read_bytes(), how))
    with pytest.raises(InputError, match=r"state\.safetensors: expected the state of a training run"):
        state.read(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"progress": {"epoch": 1}}, "the progress should hold"),
        ({"progress": {**vars(state.Progress()), "epoch": "1"}}, "'epoch' should be a whole number, got '1'"),
        ({"progress": {**vars(state.Progress()), "best": None}}, "'best' should be a number"),
        ({"names": "a"}, "the state should hold 'names'"),
        ({"head_width": None}, "the state should hold 'head_width'"),
        ({"size": "xxl"}, "'size' should be one of n, s, m, l, got 'xxl'"),
        ({"head": ["yolox"]}, "'head' should be one of leyolo, yolox"),
    ],
)
def test_headers_are_checked(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    header = {**ABOUT, "progress": vars(state.Progress()), "scaler": {}, **change}
    path = tmp_path / "state.safetensors"
    metadata = {"format": state.FORMAT, "version": "1", "json": json.dumps(header)}
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(InputError, match=text):
        state.read(path)


def test_another_kind_of_file_or_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"format": "leyolo"})
    with pytest.raises(InputError, match=r"expected 'leyolo-training-state'.*got 'leyolo'"):
        state.read(path)
    parts = _parts()
    state.write(path, parts, state.Progress(), ABOUT)
    assert load_file(path)["model.layers.0.conv.weight"].shape == (16, 3, 3, 3)
    other = state.Parts(build("s", 1), build("s", 1), parts.optimizer, parts.scaler)
    with pytest.raises(InputError, match="does not fit the run"):
        state.restore(path, state.read(path), other)


def test_tensors_that_are_missing_or_wrong(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    parts = _parts()
    _step(parts)
    state.write(path, parts, state.Progress(), ABOUT)
    read = state.read(path)
    for change in ({"rng.cpu": torch.zeros(3, dtype=torch.uint8)}, {"model.layers.0.conv.weight": torch.zeros(1)}):
        with pytest.raises(InputError, match="does not fit the run"):
            state.restore(path, state.State({**read.tensors, **change}, read.header), _parts())
    without = {name: value for name, value in read.tensors.items() if name != "rng.cpu"}
    with pytest.raises(InputError, match="does not fit the run"):
        state.restore(path, state.State(without, read.header), _parts())

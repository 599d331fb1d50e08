"""Two processes on one machine: they learn what one would, and do not outlive each other."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leyolo import weights
from leyolo.errors import MissingDependencyError, UsageError
from leyolo.nn import BatchNorm, ConvBNAct
from leyolo.train import distributed
from leyolo.train.distributed import Group, ProcessError, SharedBatchNorm, joined, share_batch_norm

ROOT = Path(__file__).resolve().parents[2]


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def _arguments(pictures: Path, folder: Path, name: str, **options: object) -> list[str]:
    values = {"data": pictures, "model": "leyolo-n", "imgsz": 128, "project": folder, "name": name, **options}
    return ["train", *(f"{key}={value}" for key, value in values.items()), "--no-plots"]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **more}


def _losses(folder: Path) -> list[list[float]]:
    with (folder / "results.csv").open() as file:
        return [[float(v) for k, v in row.items() if k.startswith("train/")] for row in csv.DictReader(file)]


def test_two_processes_are_one_with_twice_the_batch(pictures: Path, tmp_path: Path) -> None:
    """With shared batch norm: the same losses, and the same weights but for the order of sums."""
    options = {"epochs": 3, "optimizer": "sgd", "ema": 0, "sync_bn": True, "val": 1, "val_data": pictures}
    commands = {
        "one": [sys.executable, "-m", "leyolo", *_arguments(pictures, tmp_path, "one", batch=8, **options)],
        "two": [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"),
            *(str(_free_port()), "-m", "leyolo", *_arguments(pictures, tmp_path, "two", batch=4, **options)),
        ],
    }
    for command in commands.values():
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch 3/3") == 1, "one process talks"
    one, two = (_losses(tmp_path / name) for name in commands)
    assert two == pytest.approx(np.array(one), rel=2e-4)
    states = [weights.load(tmp_path / name / "weights" / "last.safetensors").state for name in commands]
    start = 0.01  # what a step changes at least; sums in another order change a ten-thousandth of it
    for name, value in states[0].items():
        assert np.abs(value - states[1][name]).max() < 0.01 * max(start, float(np.abs(value).max())), name


@pytest.fixture
def pair(pictures: Path, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes of one run without torchrun, which would end the second itself."""
    port = str(_free_port())
    command = [
        sys.executable,
        "-m",
        "leyolo",
        *_arguments(pictures, tmp_path, "pair", batch=4, epochs=1000, timeout=60),
    ]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            command, env=_environment(RANK=str(rank), LOCAL_RANK=str(rank), **group), stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_process_ends_the_other_with_a_word(pair: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    state = tmp_path / "pair" / "weights" / "state.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists():
        assert time.monotonic() < deadline, "training did not start"
        assert all(process.poll() is None for process in pair), pair[0].communicate()[1]
        time.sleep(0.1)
    pair[1].send_signal(signal.SIGKILL)
    _, said = pair[0].communicate(timeout=60)
    assert pair[0].returncode == 1
    assert "process 0 of 2: another process of this run ended" in said
    assert "--resume" in said
    assert "Traceback" not in said


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spelled as everywhere else; one that is not there is said, in words."""
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined("CPU", 1) as group:
        assert group.device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"device cuda:1: .* sees no CUDA device"), joined("1", 1):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed, "has_kernels", lambda: True)
    with pytest.raises(MissingDependencyError, match="device cuda:2: this machine has 2 CUDA devices"), joined("2", 1):
        pass


def test_a_process_that_nobody_joins_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    group = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    for name, value in group.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProcessError, match="did not answer within 1 s"), joined("cpu", 1):
        pass


def test_alone_nothing_is_exchanged() -> None:
    group = Group(0, 1, torch.device("cpu"))
    value = torch.ones(3)
    assert group.total(value) is value
    assert group.gather("a") == ["a"]
    group.align([value])
    network = nn.Linear(1, 1)
    assert group.wrap(network, sync_bn=True) is network


def test_what_the_leading_process_does_all_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone makes the run's folder; where it cannot, no one waits for it."""
    said: list[object] = []

    def leads() -> str:
        said.append("made")
        return "train-2"

    def fails() -> str:
        raise UsageError("train exists")

    cpu = torch.device("cpu")
    for work, expected in ((leads, "train-2"), (fails, None)):
        heard: list[object] = []
        monkeypatch.setattr(Group, "gather", lambda group, value, heard=heard: heard.append(value) or heard[:1])
        for rank in (0, 1):
            if expected is None:
                with pytest.raises(UsageError, match="train exists"):
                    Group(rank, 2, cpu).led(work)
            else:
                assert Group(rank, 2, cpu).led(work) == expected
        assert heard[1] is None
    assert said == ["made"]


def test_shared_batch_norm_of_one_process_is_torchs(tmp_path: Path) -> None:
    """Values, gradients and statistics, in float64."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        plain = nn.Sequential(ConvBNAct(3, 6, 3), ConvBNAct(6, 4)).double()
        for module in plain.modules():
            if isinstance(module, BatchNorm):
                module.momentum = 0.2
        shared = nn.Sequential(ConvBNAct(3, 6, 3), ConvBNAct(6, 4)).double()
        shared.load_state_dict(plain.state_dict())
        for module in shared.modules():
            if isinstance(module, BatchNorm):
                module.momentum = 0.2
        share_batch_norm(shared)
        assert sum(type(m) is SharedBatchNorm for m in shared.modules()) == 2
        x = torch.rand(4, 3, 9, 7, dtype=torch.float64)
        outputs = [network(x) for network in (plain, shared)]
        assert torch.allclose(*outputs, rtol=1e-10, atol=1e-12)
        for y in outputs:
            (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        for (name, p), q in zip(plain.named_parameters(), shared.parameters(), strict=True):
            assert p.grad is not None
            assert q.grad is not None
            assert torch.allclose(p.grad, q.grad, rtol=1e-8, atol=1e-10), name
        for p, q in zip(plain.buffers(), shared.buffers(), strict=True):
            assert torch.allclose(p, q, rtol=1e-10)
        shared.eval()
        plain.eval()
        assert torch.allclose(plain(x), shared(x))
    finally:
        torch.distributed.destroy_process_group()

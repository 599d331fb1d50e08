"""The whole network on numpy (``_C``) and on torch against the official goldens and against plain torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import leyolo._C as C
from leyolo.geometry import anchor_points
from leyolo.models import fused
from leyolo.models.config import CONFIGS
from leyolo.models.fused import FusedNetwork
from leyolo.models.network import build
from leyolo.models.transfer import from_torch
from leyolo.runtime import Engine
from leyolo.runtime.program import CHAIN
from leyolo.weights import Checkpoint, load

LOGITS = 2e-4


@pytest.fixture(scope="module")
def official(request: pytest.FixtureRequest) -> Checkpoint:
    return load(request.getfixturevalue("shared") / "weights" / "LeYOLONano.pt")


def numpy_path(checkpoint: Checkpoint, x: np.ndarray) -> np.ndarray:
    return Engine(checkpoint)(x)


def torch_path(checkpoint: Checkpoint, x: np.ndarray) -> np.ndarray:
    return FusedNetwork(checkpoint)(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("path", [numpy_path, torch_path])
@pytest.mark.parametrize("name", ["bus_320", "bus_640", "random_2x3x256x320"])
def test_official_logits(path, name: str, official: Checkpoint, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / f"{name}.npz")
    if "input_u8" in golden:
        u8 = golden["input_u8"][None]
    else:
        u8 = np.random.RandomState(20240620).randint(0, 256, size=(2, 3, 256, 320), dtype=np.uint8)
    x = np.ascontiguousarray((u8.astype(np.float32) / 255).transpose(0, 2, 3, 1))
    logits = path(official, x)
    for image, expected in enumerate(golden["logits_at_idx"]):
        assert np.abs(logits[image][golden["idx"][image]] - expected).max() < LOGITS


def folded_by_torch(network: torch.nn.Module) -> torch.nn.Module:
    """Folding rounds the weights once more, in torch as here: that is what we compare with."""
    for module in list(network.modules()):
        if isinstance(getattr(module, "bn", None), torch.nn.BatchNorm2d):
            module.conv = torch.nn.utils.fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = torch.nn.Identity()
    return network


@pytest.mark.parametrize("head", ["leyolo", "yolox"])
@pytest.mark.parametrize("size", list(CONFIGS))
@pytest.mark.parametrize("classes", [1, 20])
def test_every_size_and_head_against_plain_torch(size: str, head: str, classes: int) -> None:
    network = build(size, classes, head).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():  # statistics as after training, so that folding has something to do
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
        x = torch.rand(2, 3, 96, 64, generator=generator)
        exact = network.double()(x.double())
        checkpoint = from_torch(network.float())
        plain = folded_by_torch(network)(x)
    nhwc = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    ours = numpy_path(checkpoint, nhwc)
    assert np.array_equal(ours, torch_path(checkpoint, nhwc))
    error, allowed = (np.abs(y - exact.numpy()).max() for y in (ours, plain.numpy()))
    assert error <= 2 * allowed + 2**-24 * exact.abs().max().item()


def test_threads_and_batches_change_nothing(official: Checkpoint) -> None:
    x = np.random.default_rng(0).random((5, 64, 96, 3), np.float32)
    engine = Engine(official)
    threads = C.num_threads()
    try:
        C.set_num_threads(1)
        expected = engine(x)
        C.set_num_threads(2)
        assert np.array_equal(engine(x), expected)
        assert np.array_equal(np.concatenate([engine(x[i : i + 1]) for i in range(5)]), expected)
    finally:
        C.set_num_threads(threads)


def same_candidates(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    assert np.array_equal(found[3], expected[3])
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        assert len(ours) == len(theirs)
        for image, count in enumerate(found[3]):
            assert ours[image, :count].tobytes() == theirs[image, :count].tobytes()


@pytest.mark.parametrize("options", [{}, {"share": 0.0}, {"share": np.inf}])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.25, 1.0])
def test_candidates_are_those_of_the_logits(
    threshold: float, multi_label: bool, dtype: type, options: dict[str, float], official: Checkpoint
) -> None:
    engine = Engine(official, **options)
    x = np.random.default_rng(0).random((3, 96, 160, 3), np.float32)
    x[1:, 20:70, 30:90] = 0.9
    x = x if dtype == np.float32 else (255 * x).astype(dtype)
    centers, strides = anchor_points(96, 160, (8, 16, 32))
    how: dict[str, Any] = {"score_threshold": threshold, "multi_label": multi_label}
    expected = C.detect_decode(engine(x), centers, strides, **how)
    threads = C.num_threads()
    try:
        for n in (1, 2, 4):
            C.set_num_threads(n)
            same_candidates(engine.detect(x, **how), expected)
    finally:
        C.set_num_threads(threads)
    if threshold < 0.25:
        assert (expected[3] > 0).all()


@pytest.mark.parametrize("size", list(CONFIGS))
def test_candidates_of_every_size(size: str) -> None:
    engine = Engine(from_torch(build(size, 7, "leyolo")))
    x = np.random.default_rng(0).random((1, 64, 96, 3), np.float32)
    centers, strides = anchor_points(64, 96, (8, 16, 32))
    expected = C.detect_decode(engine(x), centers, strides, score_threshold=0.001)
    assert expected[3][0] > 0
    same_candidates(engine.detect(x, score_threshold=0.001), expected)


@pytest.mark.parametrize("head", ["leyolo", "yolox"])
@pytest.mark.parametrize("size", list(CONFIGS))
def test_every_step_has_a_name_of_its_own(size: str, head: str) -> None:
    engine = Engine(from_torch(build(size, 2, head)))
    for features in (False, True) if head == "leyolo" else (False,):
        program = engine.program(64, 64, from_bytes=True, features=features)
        assert len(program.names) == len(program.steps)
        names = [name for name in program.names if not name.startswith("chain of ")]
        assert "" not in names
        assert len(set(names)) == len(names)


def test_one_engine_in_many_threads(official: Checkpoint) -> None:
    engine = Engine(official)
    images = np.random.default_rng(0).random((8, 1, 64, 64, 3), np.float32)
    expected = [engine(x) for x in images]
    results: dict[int, list[np.ndarray]] = {}

    def work(i: int) -> None:
        results[i] = [engine(images[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(8):
        assert all(np.array_equal(y, expected[i]) for y in results[i])


def test_fused_network_compiles_without_a_break(official: Checkpoint) -> None:
    network = FusedNetwork(official)
    x = torch.rand(1, 3, 64, 64)
    network.prepare(64, 64)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(network, fullgraph=True, backend="aot_eager")(x), network(x))


def test_fused_network_shares_chains_among_torchs_threads(official: Checkpoint, monkeypatch) -> None:
    """A program made for one thread would leave the others idle."""
    network, pieces = FusedNetwork(official), []
    forward = fused.forward

    def seen(x: torch.Tensor, program: torch.Tensor, *rest: object) -> torch.Tensor:
        pieces.append(set(program[program[:, 0] == CHAIN][:, 3].tolist()))
        return forward(x, program, *rest)

    monkeypatch.setattr(fused, "forward", seen)
    x = torch.rand(1, 3, 640, 640)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(network(x))
    finally:
        torch.set_num_threads(before)
    assert pieces == [{1}, {2}, {3}]
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((1, 64, 60, 3), "multiples of 32, got 64 x 60"), ((64, 64, 3), "x must be"), ((1, 64, 64, 4), "x must be")],
)
def test_rejects(shape: tuple[int, ...], text: str, official: Checkpoint) -> None:
    with pytest.raises(ValueError, match=text):
        Engine(official)(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=text):
        Engine(official).detect(np.zeros(shape, np.float32))

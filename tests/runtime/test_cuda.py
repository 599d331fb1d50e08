"""The network on CUDA, or, where the kernels' test build is what runs, the same kernels on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import leyolo._C as C
from leyolo.models.config import CONFIGS
from leyolo.models.fused import FusedNetwork
from leyolo.models.network import build
from leyolo.models.transfer import from_torch, to_torch
from leyolo.ops import forward
from leyolo.ops._library import on_cuda
from leyolo.predict.gpu import GpuEngine
from leyolo.predict.pipeline import Pipeline, Settings, _suppress
from leyolo.runtime.cuda import Gpu, in_type, pack_conv2d, pack_depthwise
from leyolo.runtime.fold import fold
from leyolo.runtime.lower import Network
from leyolo.runtime.program import BLOCK, DEPTHWISE, MAX_POOL, UNIT, UPSAMPLE2X
from leyolo.weights import Checkpoint, load

pytestmark = [pytest.mark.cuda] if torch.cuda.is_available() else []  # what `-m cuda` has to run
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_kernels = pytest.mark.skipif(
    not on_cuda(torch.device(DEVICE)), reason="needs a GPU, or a build with -DLEYOLO_CUDA_SHIM=ON"
)

RELATIVE_RMS = {"float32": 2e-6, "tf32": 1e-3, "float16": 1e-3, "bfloat16": 8e-3}
"""Root mean square of the logits' error over that of the logits."""


@pytest.fixture(scope="module")
def official(request: pytest.FixtureRequest) -> Checkpoint:
    return load(request.getfixturevalue("shared") / "weights" / "LeYOLONano.pt")


def pixels(*shape: int) -> torch.Tensor:
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return x.to(DEVICE, memory_format=torch.channels_last)


def relative_rms(found: torch.Tensor, expected: torch.Tensor) -> float:
    error = (found.cpu() - expected).square().mean() / expected.square().mean()
    return float(error.sqrt())


def plain_torch(checkpoint: Checkpoint, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = to_torch(checkpoint).eval()(x.cpu().float() / 255)
    return logits


@needs_kernels
@pytest.mark.parametrize("dtype", list(RELATIVE_RMS))
def test_official_weights(dtype: str, official: Checkpoint) -> None:
    x = pixels(2, 3, 64, 96)
    network = FusedNetwork(official, dtype, device=DEVICE)
    logits = network(x)
    assert logits.dtype == torch.float32
    assert relative_rms(logits, plain_torch(official, x)) < RELATIVE_RMS[dtype]
    assert relative_rms(network(x.float() / 255), logits.cpu()) < 1e-6
    if dtype == "tf32":  # and not float32 under another name
        assert relative_rms(logits, plain_torch(official, x)) > 10 * RELATIVE_RMS["float32"]


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (2, 3, 160, 288)], ids=str)
def test_a_kernel_per_convolution_gives_nearly_the_same(shape: tuple[int, ...], official: Checkpoint) -> None:
    x = pixels(*shape)
    fused, staged = (FusedNetwork(official, device=DEVICE, gpu=Gpu(fuse=fuse)) for fuse in (True, False))
    assert relative_rms(staged(x), fused(x).cpu()) < RELATIVE_RMS["float16"]
    assert (fused.launches(32, 64), staged.launches(32, 64)) == (30, 96)


@needs_kernels
@pytest.mark.parametrize("head", ["leyolo", "yolox"])
@pytest.mark.parametrize("size", list(CONFIGS))
def test_every_size_and_head(size: str, head: str) -> None:
    network = build(size, 20, head).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    checkpoint = from_torch(network)
    x = pixels(1, 3, 32, 32)
    expected = plain_torch(checkpoint, x)
    # The logits of untrained weights are mostly the last bias, so what counts is how they vary.
    spread = float(expected.std() / expected.square().mean().sqrt())
    assert relative_rms(FusedNetwork(checkpoint, "float16", device=DEVICE)(x), expected) < 0.01 * spread


@needs_kernels
def test_images_take_turns_where_the_arena_is_small(official: Checkpoint) -> None:
    network = FusedNetwork(official, "float32", device=DEVICE)
    x = pixels(3, 3, 32, 32)
    expected = network(x)
    program, size, shape = network._run(32, 32)
    for images in (1, 2):
        arena = torch.empty(size * images, device=DEVICE)
        assert torch.equal(forward(x, program, network._weights, arena, size, shape), expected)
    assert len(network(x[:0])) == 0


@needs_kernels
def test_wrong_programs_are_refused(official: Checkpoint) -> None:
    network = FusedNetwork(official, "float16", device=DEVICE)
    x = pixels(1, 3, 32, 32)
    program, size, shape = network._run(32, 32)
    arena = torch.empty(size, dtype=torch.float16, device=DEVICE)
    stem, plain = (int(row) for row in (program[:, 0] == BLOCK).nonzero()[:2])
    pools = int((program[:, 0] == MAX_POOL).nonzero()[0])
    upsampling = int((program[:, 0] == UPSAMPLE2X).nonzero()[0])
    head = int((program[:, 0] == BLOCK).nonzero()[-1])
    for row, column, value, text in (
        (stem, 1, 3, "expected 3, or 2 that do not"),
        (stem, 1, 1, "expected 2 to 20"),
        (stem + 1, 0, DEPTHWISE, "begins with a convolution"),
        (stem + 2, 3, 24, "must read what"),
        (stem + 1, 19, 1, "packed values"),
        (plain, 0, 4, "chains are for the CPU"),
        (plain + 1, 0, UNIT, "a block is"),
        (plain + 1, 1, 1, "expected 3, or 2 that do not"),
        (plain + 1, 19, 0, "packed values"),
        (pools + 1, 2, 0, "three of kernel 5"),
        (upsampling, 8, 32, "makes the first channels"),
        (upsampling, 2, 1 << 30, "does not fit into"),
        (head + 3, 14, 5, "a level of the head"),
        (head + 4, 2, 96, "must read what"),
        (head + 5, 8, 1 << 30, "does not fit into"),
        (head + 5, 7, 0, "writes the result"),
    ):
        wrong = program.clone()
        wrong[row, column] = value
        with pytest.raises((ValueError, RuntimeError), match=text):
            forward(x, wrong, network._weights, arena, size, shape)


@needs_kernels
@pytest.mark.parametrize("settings", [Settings(conf=0.02), Settings(conf=0.01, classes=(0, 5), multi_label=True)])
def test_boxes_of_the_whole_pipeline(settings: Settings, official: Checkpoint, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / "bus_320.npz")
    x = np.ascontiguousarray(golden["input_u8"].transpose(1, 2, 0)[None, 64:160, 64:160])
    engine = GpuEngine(official, DEVICE, "float32")
    ((boxes, scores, labels),) = engine.boxes(x, settings)
    reference = Pipeline(
        lambda _: plain_torch(official, torch.from_numpy(x).permute(0, 3, 1, 2)).numpy(), num_classes=80
    )

    ((expected, expected_scores, expected_labels),) = _suppress(reference._candidates(x, settings), settings)
    assert len(boxes) > 0
    assert np.array_equal(labels, expected_labels)
    assert np.allclose(boxes, expected, atol=1e-2)
    assert np.allclose(scores, expected_scores, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("shapes", [[(70, 100)], [(200, 90), (200, 90)], [(64, 64), (30, 50)]], ids=str)
def test_pictures_are_letterboxed_by_the_engine(
    shapes: list[tuple[int, int]], rect: bool, official: Checkpoint
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    settings = Settings(imgsz=96, rect=rect, conf=0.001, max_det=20)
    engine = GpuEngine(official, DEVICE, "float16")
    taken = Pipeline(engine, num_classes=80)(images, settings)
    engine.takes_pictures = lambda shape: False  # type: ignore[method-assign]
    for ours, theirs in zip(taken, Pipeline(engine, num_classes=80)(images, settings), strict=True):
        assert len(ours.boxes) > 0
        assert np.array_equal(ours.boxes, theirs.boxes)
        assert np.array_equal(ours.scores, theirs.scores)
        assert np.array_equal(ours.labels, theirs.labels)


class _Waits(TorchDispatchMode):
    """Fails where the host would wait for the device, or where a size depends on data: what a graph cannot hold."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in {
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.masked_select,
            torch.ops.aten.is_nonzero,
            torch.ops.aten.equal,
            torch.ops.aten.repeat_interleave,
            torch.ops.aten._to_copy if "cpu" in str((kwargs or {}).get("device")) else None,
        }, func
        return func(*args, **(kwargs or {}))


@needs_kernels
@pytest.mark.parametrize("head", ["leyolo", "yolox"])
def test_from_picture_to_boxes_nothing_waits(head: str) -> None:
    engine = GpuEngine(from_torch(build("n", 20, head).eval()), DEVICE, "float16")
    x = torch.randint(0, 256, (2, 50, 70, 3), dtype=torch.uint8, device=DEVICE)
    settings = Settings(imgsz=64, conf=0.001, classes=(1, 7))
    with torch.inference_mode():
        expected = engine.picture_stages(x, settings)  # makes the constants
        with _Waits():
            found = engine.picture_stages(x, settings)
    assert torch.equal(found, expected)


def test_a_graph_is_recorded_for_a_size_that_comes_again(official: Checkpoint) -> None:
    engine = GpuEngine(official, DEVICE, "float32", cuda_graph=True)
    assert [engine.takes_pictures((1, side, 8, 3)) for side in (1, 2, 1, 2, 3)] == [False, False, True, True, False]
    for side in range(10, 20):
        engine.takes_pictures((1, side, 8, 3))
    assert not engine.takes_pictures((1, 1, 8, 3))  # forgotten


@pytest.mark.cuda
@pytest.mark.skipif("PYTORCH_NO_CUDA_MEMORY_CACHING" in os.environ, reason="capture needs torch's memory cache")
def test_a_captured_graph_gives_the_same_boxes(official: Checkpoint) -> None:
    x = np.ascontiguousarray(pixels(2, 3, 96, 64).permute(0, 2, 3, 1).cpu().numpy())
    settings = Settings(conf=0.001)
    plain, graphed = (GpuEngine(official, DEVICE, "float16", cuda_graph=graph) for graph in (False, True))
    for _ in range(2):
        for (a, b, c), (d, e, f) in zip(plain.boxes(x, settings), graphed.boxes(x, settings), strict=True):
            assert np.array_equal(a, d)
            assert np.array_equal(b, e)
            assert np.array_equal(c, f)
        for found, expected in zip(graphed.pictures(x, settings), plain.pictures(x, settings), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        x = np.ascontiguousarray(x[:, ::-1])


def test_lowering_makes_a_kernel_of_a_bottleneck(official: Checkpoint) -> None:
    network = Network(CONFIGS["n"], "leyolo", 80, fold(official.state), dtype="float16", gpu=Gpu(227 << 10))
    program = network.program(640, 640)
    assert len(program.launches) == 30
    assert program.launches[:2] == ("L0", "L3")  # L1 is a 1x1 convolution: it expands for L2
    assert program.launches[-1] == "P3.box+cls.0"  # the whole head
    strict = Network(CONFIGS["n"], "leyolo", 80, fold(official.state), gpu=Gpu())
    assert len(strict.program(640, 640).launches) == 94  # pools are one


def test_packing() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000, np.float32)
    bits = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(in_type(values, "bfloat16"), bits)
    weight, bias = rng.standard_normal((5, 3, 3, 3), np.float32), rng.standard_normal(5, np.float32)
    packed = pack_conv2d(weight, bias, "float16")
    rows = packed[8:].view(np.float16).reshape(5, 32)
    assert np.array_equal(packed[:8], np.pad(bias, (0, 3)))
    assert np.array_equal(rows[2, 3 * 4 + 1], np.float16(weight[2, 1, 1, 1]))
    assert not rows[:, 27:].any()
    taps = pack_depthwise(weight[:, :1], bias, "float32")[8:].reshape(9, 8)
    assert np.array_equal(taps[5, :5], weight[:, 0, 1, 2])
    assert not taps[:, 5:].any()


def test_what_fits() -> None:
    assert C.bottleneck_fits(96, 576, 96, 5, 1, True, 99 << 10)
    assert not C.bottleneck_fits(96, 576, 136, 5, 1, True, 227 << 10)
    assert not C.bottleneck_fits(96, 576, 96, 7, 1, True, 227 << 10)
    assert not C.bottleneck_fits(12, 576, 96, 5, 1, True, 227 << 10)
    assert not C.bottleneck_fits(2048, 576, 96, 5, 1, True, 99 << 10)
    assert C.bottleneck_fits(16, 16, 16, 3, 2, True, 99 << 10, 3, 3)
    assert not C.bottleneck_fits(16, 16, 16, 3, 1, True, 99 << 10, 3, 3)  # its smallest tile is too small
    assert not C.bottleneck_fits(16, 16, 40, 3, 2, True, 99 << 10, 3, 3)
    assert not C.bottleneck_fits(16, 16, 16, 3, 2, True, 99 << 10, 3, 4)
    assert C.head_fits(96, 80, 80, 99 << 10)
    assert not C.head_fits(96, 80, 136, 227 << 10)
    assert not C.head_fits(96, 84, 80, 227 << 10)

"""The network in bfloat16 against float32, and that it is the same whichever way it is called."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import leyolo._C as C
from leyolo import LeYOLO
from leyolo.geometry import anchor_points
from leyolo.models.config import CONFIGS
from leyolo.models.fused import FusedNetwork
from leyolo.models.network import build
from leyolo.models.transfer import from_torch
from leyolo.runtime import Engine
from leyolo.runtime.program import INPUT, OUTPUT, SILU, Buffer, Builder, Slot
from leyolo.weights import Checkpoint, load

needs_bf16 = pytest.mark.skipif(
    not C.cpu_features()["bf16_dot"], reason="this CPU has no AVX512-BF16, or LEYOLO_ISA lowers the instruction set"
)

RELATIVE_RMS = 0.01
"""Root mean square of the logits' error over that of the logits: the stated bound for trained weights (about 0.005)."""


@pytest.fixture(scope="module")
def official(request: pytest.FixtureRequest) -> Checkpoint:
    return load(request.getfixturevalue("shared") / "weights" / "LeYOLONano.pt")


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))


@needs_bf16
@pytest.mark.parametrize("name", ["bus_320", "bus_640", "random_2x3x256x320"])
def test_official_logits(name: str, official: Checkpoint, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / f"{name}.npz")
    if "input_u8" in golden:
        u8 = golden["input_u8"][None]
    else:
        u8 = np.random.RandomState(20240620).randint(0, 256, size=(2, 3, 256, 320), dtype=np.uint8)
    logits = Engine(official, dtype="bfloat16")(np.ascontiguousarray(u8.transpose(0, 2, 3, 1)))
    for image, expected in enumerate(golden["logits_at_idx"]):
        error = relative_rms(logits[image][golden["idx"][image]], expected)
        assert 1e-4 < error < RELATIVE_RMS  # below: this was not bfloat16


@needs_bf16
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
    x = torch.rand(2, 3, 96, 64, generator=generator).permute(0, 2, 3, 1).contiguous().numpy()
    expected, found = Engine(checkpoint)(x), Engine(checkpoint, dtype="bf16")(x)
    # The logits of untrained weights are mostly the last bias, so what counts is how they vary.
    assert relative_rms(found, expected) < 0.03 * expected.std() / np.sqrt(np.square(expected).mean())


@needs_bf16
def test_the_way_it_is_called_changes_nothing(official: Checkpoint) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 128, 96, 3), dtype=np.uint8)
    x = pixels.astype(np.float32) / np.float32(255)
    threads = C.num_threads()
    try:
        C.set_num_threads(1)
        engine = Engine(official, dtype="bfloat16")
        expected = engine(x)
        assert np.array_equal(engine(pixels), expected)
        assert np.array_equal(Engine(official, dtype="bfloat16", share=0)(x), expected)
        assert np.array_equal(Engine(official, dtype="bfloat16", share=float("inf"))(x), expected)
        C.set_num_threads(2)
        assert np.array_equal(engine(x), expected)
        assert np.array_equal(np.concatenate([engine(x[i : i + 1]) for i in range(5)]), expected)
        by_torch = FusedNetwork(official, "bfloat16")(torch.from_numpy(x).permute(0, 3, 1, 2))
        assert np.array_equal(by_torch.numpy(), expected)
    finally:
        C.set_num_threads(threads)


@needs_bf16
def test_candidates_are_those_of_the_logits(official: Checkpoint) -> None:
    """The box branch is kept in float32 from its last depthwise layer on, so boxes differ in their rounding."""
    engine = Engine(official, dtype="bf16")
    x = np.random.default_rng(0).random((3, 96, 160, 3), np.float32)
    x[1:, 20:70, 30:90] = 0.9
    centers, strides = anchor_points(96, 160, (8, 16, 32))
    boxes, scores, labels, counts = C.detect_decode(engine(x), centers, strides, score_threshold=0.001)
    assert (counts > 0).all()
    threads = C.num_threads()
    try:
        for n in (1, 2):
            C.set_num_threads(n)
            found = engine.detect(x, score_threshold=0.001)
            assert np.array_equal(found[3], counts)
            for image, count in enumerate(counts):
                assert np.array_equal(found[1][image, :count], scores[image, :count])
                assert np.array_equal(found[2][image, :count], labels[image, :count])
                assert 1e-3 < np.abs(found[0][image, :count] - boxes[image, :count]).max() < 2
    finally:
        C.set_num_threads(threads)


@needs_bf16
@pytest.mark.parametrize("imgsz", [320, 640])
def test_the_same_objects(imgsz: int, shared: Path) -> None:
    weights, bus = shared / "weights" / "LeYOLONano.pt", shared / "data" / "images" / "bus.jpg"
    (expected,) = LeYOLO(weights)(bus, imgsz=imgsz, conf=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LeYOLO(weights, dtype="bf16")
        (found,) = model(bus, imgsz=imgsz, conf=0.4)
    assert model.dtype == "bfloat16"
    for these, others in ((found, expected), (expected, found)):
        sure = these.boxes[these.boxes.conf > 0.5]  # far enough from the threshold
        assert len(sure) > 3
        overlaps = C.box_iou(*(np.ascontiguousarray(boxes.xyxy) for boxes in (sure, others.boxes)))
        twins = overlaps.argmax(1)
        assert (overlaps.max(1) > 0.9).all()
        assert np.array_equal(sure.cls, others.boxes.cls[twins])
        np.testing.assert_allclose(sure.conf, others.boxes.conf[twins], atol=0.05)


def small_program() -> tuple[np.ndarray, int, list[np.ndarray]]:
    builder = Builder()
    x = builder.unit(Slot.whole(Buffer(8, 10, 3, space=INPUT)), 4)
    a = builder.conv2d(x, 0, 5, kernel=3, stride=2, activation=SILU)
    b = builder.depthwise(a, 1, kernel=3)
    builder.conv2d(b, 2, 7, residual=None, into=Slot.whole(Buffer(4, 5, 7, space=OUTPUT)))
    program = builder.finish((20, 7))
    rng = np.random.default_rng(0)
    weights = [
        C.conv2d_bf16_pack(rng.standard_normal((5, 4, 3, 3), np.float32), activation="silu"),
        C.depthwise_bf16_pack(rng.standard_normal((5, 1, 3, 3), np.float32), activation="silu"),
        C.conv2d_bf16_pack(rng.standard_normal((7, 5, 1, 1), np.float32)),
    ]
    return program.steps, program.arena_size, weights


def run(steps: np.ndarray, size: int, weights: list[np.ndarray], dtype: type = np.uint16) -> np.ndarray:
    x = np.random.default_rng(1).random((1, 8, 10, 3), np.float32)
    return C.forward(x, steps, weights, np.zeros(size, dtype), size, [20, 7])


@needs_bf16
@pytest.mark.parametrize(
    ("step", "column", "value", "text"),
    [
        (0, 0, 4, "a chain of"),
        (0, 6, 4, "unit makes 4 channels of 3"),
        (0, 12, 3, "unit makes 4 channels of 3"),
        (0, 1, 0, "unit reads a dense image"),
        (1, 1, 1, "cannot read an image of float32|does not fit"),
        (1, 6, 2, "must be int32 of"),
        (1, 8, 2**40, "does not fit"),
        (2, 19, 0, "must be int32 of"),
        (3, 8, 8, "does not fit"),
    ],
)
def test_wrong_programs_are_refused(step: int, column: int, value: int, text: str) -> None:
    steps, size, weights = small_program()
    assert np.isfinite(run(steps, size, weights)).all()
    steps[step, column] = value
    with pytest.raises(ValueError, match=text):
        run(steps, size, weights)


@needs_bf16
def test_weights_of_the_other_type_are_refused() -> None:
    steps, size, weights = small_program()
    with pytest.raises(ValueError, match=r"unit makes floats|must be float32 of"):
        run(steps, size, weights, np.float32)
    with pytest.raises(ValueError, match="must be int32 of"):
        run(steps, size, [w.view(np.float32) for w in weights])
    with pytest.raises(ValueError, match="dtype uint32 is not supported"):
        run(steps, size, weights, np.uint32)


def test_packing_rejects() -> None:
    weight = np.zeros((8, 4, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight must be float32 \[O, C, k, k\]"):
        C.conv2d_bf16_pack(weight.astype(np.float64))
    with pytest.raises(ValueError, match=r"weight must be \[O, C, k, k\]"):
        C.conv2d_bf16_pack(weight[0])
    with pytest.raises(ValueError, match=r"bias must be float32 \[8\]"):
        C.conv2d_bf16_pack(weight, np.zeros(7, np.float32))
    with pytest.raises(ValueError, match="activation must be"):
        C.conv2d_bf16_pack(weight, activation="swish")
    with pytest.raises(ValueError, match=r"weight must be float32 \[C, 1, k, k\]"):
        C.depthwise_bf16_pack(weight)


def test_rejects(official: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"dtype must be float32 or bfloat16 \(bf16\), got 'float16'"):
        Engine(official, dtype="float16")


def test_it_falls_back_to_float32_with_one_warning(shared: Path) -> None:
    script = f"""
        import warnings
        import numpy as np
        import leyolo._C as C
        from leyolo import LeYOLO
        weights, bus = {str(shared / "weights" / "LeYOLONano.pt")!r}, {str(shared / "data" / "images" / "bus.jpg")!r}
        assert not C.cpu_features()["bf16_dot"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = LeYOLO(weights, dtype="bf16")
            (found,) = model(bus, imgsz=320)
        assert [str(w.message) for w in caught if "bfloat16 needs a CPU with AVX512-BF16" in str(w.message)]
        assert len(caught) == 1, [str(w.message) for w in caught]
        assert caught[0].filename == "<string>", caught[0].filename  # the caller's line
        assert model.dtype == "float32"
        assert np.array_equal(found.boxes.data, LeYOLO(weights)(bus, imgsz=320)[0].boxes.data)
        try:
            program, arena = np.zeros((1, 24), np.int64), np.zeros(8, np.uint16)
            C.forward(np.zeros((1, 8, 8, 3), np.float32), program, [], arena, 8, [1])
        except ValueError as error:
            assert "bfloat16 needs a CPU with AVX512-BF16" in str(error)
        else:
            raise AssertionError("this CPU was said to have no dot product")
    """
    environment = {**os.environ, "LEYOLO_ISA": "avx2"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

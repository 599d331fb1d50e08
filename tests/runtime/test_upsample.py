"""Convolutions over an upsampled map do without it; that the network stays right is tested in
test_engine.py."""

from __future__ import annotations

import numpy as np
import pytest

import leyolo._C as C
from leyolo.models.config import CONFIGS
from leyolo.models.network import build
from leyolo.models.transfer import from_torch
from leyolo.runtime import Engine
from leyolo.runtime.fold import fold
from leyolo.runtime.program import INPUT, OUTPUT, SILU, Buffer, Builder, Slot
from leyolo.runtime.upsample import split_weights, splits


def test_which_are_split() -> None:
    for size, config in CONFIGS.items():
        found = splits(config)
        expanded, depthwise = (16, 21) if size in "ns" else (19, 25)
        assert found.keys() == {expanded, depthwise}
        assert splits(config, expansions=False).keys() == {depthwise}
        for concat, split in found.items():
            assert config.layers[concat].inputs == (split.upsampling, split.other)
            assert config.layers[split.upsampling].inputs == (split.low,)
            assert split.channels == config.layers[split.low].out_channels
            assert split.readers == (concat + 1,)
        assert config.layers[found[expanded].low].kind == "sppf"
        assert config.layers[expanded + 1].has_expansion
        assert not config.layers[depthwise + 1].has_expansion


def test_split_weights_are_those_of_the_layer() -> None:
    config, folded = CONFIGS["n"], fold(from_torch(build("n", 2, "leyolo")).state)
    found = split_weights(config, splits(config), folded)
    (low, nothing), (other, bias) = found["layers.17.expand.low"], found["layers.17.expand.other"]
    assert low.shape == (128, 96, 1, 1)
    assert not nothing.any()
    weight, expected = folded["layers.17.expand"]
    assert np.array_equal(np.concatenate([low, other], axis=1), weight)
    assert np.array_equal(bias, expected)
    weight, bias = folded["layers.22.depthwise"]
    parts = found["layers.22.depthwise.low"], found["layers.22.depthwise.other"]
    assert [len(weight) for weight, _ in parts] == [64, 32]
    assert np.array_equal(np.concatenate([weight for weight, _ in parts]), weight)
    assert np.array_equal(np.concatenate([bias for _, bias in parts]), bias)
    assert folded.keys() - found.keys() == {"layers.17.expand", "layers.22.depthwise"}


@pytest.mark.parametrize("size", ["n", "m"])
def test_the_same_bits_row_by_row_and_on_many_threads(size: str) -> None:
    checkpoint = from_torch(build(size, 3, "leyolo"))
    x = np.random.default_rng(0).random((1, 96, 160, 3), np.float32)
    threads = C.num_threads()
    try:
        results = []
        for share in (0.0, np.inf):
            for n in (1, 2, 3):
                C.set_num_threads(n)
                results.append(Engine(checkpoint, share=share)(x))
    finally:
        C.set_num_threads(threads)
    assert all(np.array_equal(result, results[0]) for result in results)


def program(height: int = 6, width: int = 8) -> tuple[np.ndarray, int]:
    """image -> 5 channels, at half the resolution -> 7; the image and that -> 7."""
    b = Builder()
    x = Slot.whole(Buffer(height, width, 3, space=INPUT))
    low = b.conv2d(b.conv2d(x, 0, 5, kernel=3, stride=2), 1, 7)
    b.conv2d(x, 2, 7, activation=SILU, addend=low, into=Slot.whole(Buffer(height, width, 7, space=OUTPUT)))
    made = b.finish((height * width, 7))
    return made.steps, made.arena_size


def run(steps: np.ndarray, size: int, weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    return C.forward(x, steps, weights, np.full(size, np.nan, np.float32), size, [48, 7])


def packed(*arrays: np.ndarray) -> list[np.ndarray]:
    return [C.conv2d_pack(array) for array in arrays]


def test_an_addend_is_the_convolution_of_the_upsampled_map() -> None:
    rng = np.random.default_rng(0)
    first, second, third = (rng.standard_normal(s, np.float32) for s in ((5, 3, 3, 3), (7, 5, 1, 1), (7, 3, 1, 1)))
    x = rng.standard_normal((1, 6, 8, 3), np.float32)
    found = run(*program(), packed(first, second, third), x)
    padded = np.pad(x[0].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2]
    low = np.einsum("hwcij,ocij->hwo", windows, first)
    both = np.concatenate([low.repeat(2, 0).repeat(2, 1), x[0]], axis=2)
    z = both @ np.concatenate([second, third], axis=1)[:, :, 0, 0].T
    np.testing.assert_allclose(found[0], (z / (1 + np.exp(-z))).reshape(48, 7), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "column", "value", "text"),
    [
        (2, 21, 10**7, "addend of 12 pixels"),
        (2, 22, 6, "addend of 12 pixels"),
        (2, 22, 2**40, "addend of 12 pixels"),
        (0, 21, 0, "only 1x1 and depthwise convolutions of stride 1 have an addend"),
    ],
)
def test_wrong_addends_are_refused(step: int, column: int, value: int, text: str) -> None:
    steps, size = program()
    steps[step, column] = value
    weights = packed(*(np.zeros(s, np.float32) for s in ((5, 3, 3, 3), (7, 5, 1, 1), (7, 3, 1, 1))))
    with pytest.raises(ValueError, match=text):
        run(steps, size, weights, np.zeros((1, 6, 8, 3), np.float32))


def test_an_addend_of_odd_maps_is_refused() -> None:
    steps, size = program(7, 8)
    weights = packed(*(np.zeros(s, np.float32) for s in ((5, 3, 3, 3), (7, 5, 1, 1), (7, 3, 1, 1))))
    with pytest.raises(ValueError, match="half as high and wide as the output, got 7 x 8"):
        C.forward(np.zeros((1, 7, 8, 3), np.float32), steps, weights, np.zeros(size, np.float32), size, [56, 7])


def depthwise_program() -> tuple[np.ndarray, int]:
    """image -> 5 channels at half the resolution; those and the image -> 8, depthwise, to 4 -> output."""
    b = Builder()
    x = Slot.whole(Buffer(6, 8, 3, space=INPUT))
    low = b.conv2d(x, 0, 5, kernel=3, stride=2)
    b.depthwise(b.conv2d(x, 1, 4), 2, kernel=3, low=low, into=Slot.whole(Buffer(6, 8, 9, space=OUTPUT)))
    made = b.finish((48, 9))
    return made.steps, made.arena_size


def depthwise_weights(rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    first, second, third = (rng.standard_normal(s, np.float32) for s in ((5, 3, 3, 3), (4, 3, 1, 1), (9, 1, 3, 3)))
    both = np.concatenate([C.depthwise_pack(third[:5], None), C.depthwise_pack(third[5:], None)])
    return [*packed(first, second), both], third


def test_a_depthwise_convolution_reads_the_low_map_by_index() -> None:
    rng = np.random.default_rng(0)
    weights, taps = depthwise_weights(rng)
    x = rng.standard_normal((1, 6, 8, 3), np.float32)
    steps, size = depthwise_program()
    found = C.forward(x, steps, weights, np.full(size, np.nan, np.float32), size, [48, 9])
    maps = np.empty(size, np.float32)
    C.forward(x, steps[:2].copy(), weights[:2], maps, size, [48, 9])
    low = maps[steps[0, 8] :][: 3 * 4 * 5].reshape(3, 4, 5)
    other = maps[steps[1, 8] :][: 6 * 8 * 4].reshape(6, 8, 4)
    both = np.concatenate([low.repeat(2, 0).repeat(2, 1), other], axis=2)
    expected = C.depthwise_conv2d(both[None], taps, padding=1, activation="silu")
    assert np.array_equal(found[0], expected.reshape(48, 9))


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (21, 10**7, "addend of 12 pixels"),
        (22, 4, "addend of 12 pixels"),
        (12, 10, "does not fit"),
        (12, 4, "addend of 12 pixels"),
        (14, 2, "only 1x1 and depthwise convolutions of stride 1 have an addend"),
        (15, 0, "as high and wide as the input|do not lead"),
    ],
)
def test_wrong_low_maps_are_refused(column: int, value: int, text: str) -> None:
    steps, size = depthwise_program()
    steps[2, column] = value
    weights, _ = depthwise_weights(np.random.default_rng(0))
    with pytest.raises(ValueError, match=text):
        C.forward(np.zeros((1, 6, 8, 3), np.float32), steps, weights, np.zeros(size, np.float32), size, [48, 9])

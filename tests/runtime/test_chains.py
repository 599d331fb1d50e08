"""Steps that run row by row: the same bits as whole maps, whatever the threads, and windows that are checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import leyolo._C as C
from leyolo.runtime.chains import Chain, Streaming, chains
from leyolo.runtime.program import ARENA, CHAIN, INPUT, OUTPUT, SILU, WINDOW, Buffer, Builder, Program, Slot

EVERYTHING, NOTHING = Streaming(share=0), Streaming(share=float("inf"))
HEIGHT, WIDTH = 101, 21  # odd: bands and pieces end in the middle of something


def pack(rng: np.random.Generator, out: int, channels: int, kernel: int) -> np.ndarray:
    return C.conv2d_pack(rng.standard_normal((out, channels, kernel, kernel), np.float32) / (channels * kernel), None)


def builder(from_bytes: bool) -> tuple[Builder, list[np.ndarray]]:
    """Convolutions of every kind in a row, a residual from before the chain, and a map with two readers."""
    rng = np.random.default_rng(0)
    weights = [
        pack(rng, 8, 3, 3),
        pack(rng, 24, 8, 1),
        C.depthwise_pack(rng.standard_normal((24, 1, 5, 5), np.float32) / 5, rng.standard_normal(24, np.float32)),
        pack(rng, 8, 24, 1),
        C.depthwise_pack(rng.standard_normal((8, 1, 3, 3), np.float32) / 3, None),
        pack(rng, 5, 8, 3),
    ]
    b = Builder()
    x = Slot.whole(Buffer(HEIGHT, WIDTH, 3, space=INPUT))
    image = b.unit(x) if from_bytes else x
    stem = b.conv2d(image, 0, 8, kernel=3, stride=2, activation=SILU)
    y = b.depthwise(b.conv2d(stem, 1, 24, activation=SILU), 2, kernel=5)
    y = b.conv2d(y, 3, 8, residual=stem)
    y = b.depthwise(y, 4, kernel=3, stride=2)
    h, w = y.buffer.height, y.buffer.width
    b.conv2d(y, 5, 5, kernel=3, into=Slot.whole(Buffer(h, w, 5, space=OUTPUT)))
    return b, weights


def program(streaming: Streaming, from_bytes: bool = False) -> tuple[Program, list[np.ndarray]]:
    b, weights = builder(from_bytes)
    h, w = (-(-side // 4) for side in (HEIGHT, WIDTH))
    return b.finish((h * w, 5), chains(b.steps, streaming)), weights


def run(made: tuple[Program, list[np.ndarray]], x: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
    p, weights = made
    arena = np.full(p.arena_size * max(1, len(x)), np.nan, np.float32)
    return C.forward(x, p.steps if steps is None else steps, weights, arena, p.arena_size, list(p.shape))


def pictures(images: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (images, HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def threads() -> Callable[[int], None]:
    before = C.num_threads()
    yield C.set_num_threads
    C.set_num_threads(before)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_same_bits(images: int, count: int, threads: Callable[[int], None]) -> None:
    threads(count)
    x = pictures(images).astype(np.float32) / np.float32(255)
    expected = run(program(NOTHING), x)
    assert np.isfinite(expected).all()
    assert np.abs(expected).max() > 0.05
    for made_for in (1, count, 7, HEIGHT):  # the program may have been made for other threads than there are
        assert np.array_equal(run(program(Streaming(threads=made_for, share=0)), x), expected)


def test_bytes_give_the_bits_of_their_floats() -> None:
    x = pictures(2)
    expected = run(program(NOTHING), x.astype(np.float32) / np.float32(255))
    for streaming in (EVERYTHING, NOTHING):
        assert np.array_equal(run(program(streaming, from_bytes=True), x), expected)


def test_what_is_joined() -> None:
    b, _ = builder(False)
    found = chains(b.steps, EVERYTHING)
    # The stem's map has two readers, so the chain ends there; the rest is one chain.
    assert [(c.first, c.last) for c in found] == [(1, 5)]
    assert chains(b.steps, NOTHING) == []


def test_large_maps_are_streamed_and_small_ones_not() -> None:
    b = Builder()
    x = Slot.whole(Buffer(64, 64, 16, space=INPUT))
    for channels in (64, 16, 8):
        x = b.conv2d(x, 0, channels, kernel=3)
    sizes = [4 * s.y.buffer.size for s in b.steps]
    assert [(c.first, c.last) for c in chains(b.steps, Streaming(cache_bytes=sizes[0] // 2 + 1))] == [(0, 1)]
    assert chains(b.steps, Streaming(cache_bytes=sizes[0])) == []  # no map leaves such a cache
    assert chains(b.steps, Streaming(cache_bytes=1 << 10)) == []  # not even one row fits


def test_maps_in_between_are_windows() -> None:
    streamed = program(EVERYTHING)[0]
    assert (streamed.steps[:, 0] == CHAIN).sum() == 1
    assert (streamed.steps[:, 7] == WINDOW).sum() == 4


def test_times_are_added() -> None:
    p, weights = program(EVERYTHING)
    times = np.zeros(len(p.steps))
    x = pictures(1).astype(np.float32)
    C.forward(x, p.steps, weights, np.zeros(p.arena_size, np.float32), p.arena_size, list(p.shape), None, times)
    chain = int(np.flatnonzero(p.steps[:, 0] == CHAIN)[0])
    assert times[chain] > 0
    assert (times[chain + 1 :] == 0).all()
    with pytest.raises((ValueError, RuntimeError), match="times must be float64"):
        C.forward(x, p.steps, weights, np.zeros(p.arena_size, np.float32), p.arena_size, list(p.shape), None, times[1:])


def rejected(column: int, value: int, row: int, text: str) -> None:
    made = program(EVERYTHING)
    steps = made[0].steps.copy()
    chain = int(np.flatnonzero(steps[:, 0] == CHAIN)[0])
    steps[chain + row, column] = value
    with pytest.raises((ValueError, RuntimeError), match=text):
        run(made, pictures(1).astype(np.float32), steps)


@pytest.mark.parametrize(
    ("column", "value", "row", "text"),
    [
        (1, 1, 0, "a chain of 1 steps"),
        (1, 17, 0, "a chain of 17 steps"),
        (1, 99, 0, "a chain of 99 steps"),
        (2, 0, 0, "needs a band"),
        (2, 30, 0, "needs a dense window"),
        (3, 0, 0, "needs a band, pieces"),
        (3, 10_000, 0, "do not fit into"),
        (4, -1, 0, "does not fit into"),
        (5, 10, 0, "windows need"),
        (20, 1, 1, "needs a dense window"),
        (7, ARENA, 1, "needs a dense window"),
        (1, ARENA, 2, "must read what step"),
        (0, 2, 2, "a chain holds convolutions"),
        (4, 5, 2, "must read what step|do not lead"),
    ],
)
def test_a_wrong_chain_is_an_error(column: int, value: int, row: int, text: str) -> None:
    rejected(column, value, row, text)


def test_windows_must_not_overlap_what_the_chain_reads() -> None:
    # The chain's own windows end where the residual begins, but for what fills a cache line.
    rejected(4, 32, 0, "the residual overlaps the chain's windows")


def test_the_image_must_be_read_as_what_it_is() -> None:
    made = program(EVERYTHING, from_bytes=True)
    with pytest.raises((ValueError, RuntimeError), match="unit makes floats of as many bytes"):
        run(made, pictures(1).astype(np.float32))
    with pytest.raises((ValueError, RuntimeError), match="cannot read an image of uint8"):
        run(program(EVERYTHING), pictures(1))


def test_a_chain_knows_its_windows() -> None:
    b, _ = builder(False)
    chain: Chain = chains(b.steps, EVERYTHING)[0]
    held = [rows * s.y.buffer.width * s.y.channels for rows, s in zip(chain.rows, b.steps[1:5], strict=True)]
    assert chain.window_size == sum(held)


def test_the_byte_model() -> None:
    assert C.stream_leaves(1501, 1000, 0.75)
    assert not C.stream_leaves(1500, 1000, 0.75)
    # A band of 8 rows reads 10 rows of the first layer; twice as many are kept.
    layers = [(100, 1, 1, 10), (100, 3, 1, 5), (100, 1, 1, 0)]
    assert C.stream_windows(layers, 280, 1.0) == (8, [20, 16])
    assert C.stream_windows(layers, 279, 1.0) == (4, [12, 8])
    assert C.stream_windows(layers, 10, 1.0)[0] == 0
    with pytest.raises(ValueError, match="at least two layers"):
        C.stream_windows(layers[:1], 280, 1.0)
    with pytest.raises(ValueError, match="sizes must be positive"):
        C.stream_windows([(0, 1, 1, 10), *layers], 280, 1.0)

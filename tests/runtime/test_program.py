"""The builder's placement, and that a wrong program is an error instead of a wild write."""

from __future__ import annotations

import numpy as np
import pytest

import leyolo._C as C
from leyolo.runtime.program import CONV2D, INPUT, OUTPUT, SILU, Buffer, Builder, Program, Slot


def small_program() -> tuple[Program, list[np.ndarray]]:
    """image -> conv -> depthwise -> conv with residual -> output of one level."""
    rng = np.random.default_rng(0)
    weights = [
        C.conv2d_pack(rng.standard_normal((8, 3, 3, 3), np.float32), rng.standard_normal(8, np.float32)),
        C.depthwise_pack(rng.standard_normal((8, 1, 3, 3), np.float32), None),
        C.conv2d_pack(rng.standard_normal((8, 8, 1, 1), np.float32), None),
    ]
    builder = Builder()
    x = Slot.whole(Buffer(8, 10, 3, space=INPUT))
    a = builder.conv2d(x, 0, 8, kernel=3, stride=2, activation=SILU)
    b = builder.depthwise(a, 1, kernel=3)
    builder.conv2d(b, 2, 8, residual=a, into=Slot.whole(Buffer(4, 5, 8, space=OUTPUT)))
    return builder.finish((20, 8)), weights


def run(program: Program, weights: list[np.ndarray], steps: np.ndarray | None = None, images: int = 1) -> np.ndarray:
    x = np.random.default_rng(1).random((images, 8, 10, 3), np.float32)
    arena = np.full(program.arena_size * images, np.nan, np.float32)
    return C.forward(
        x, program.steps if steps is None else steps, weights, arena, program.arena_size, list(program.shape)
    )


def test_buffers_alive_together_never_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        builder = Builder()
        slots = [builder.conv2d(Slot.whole(Buffer(8, 8, 3, space=INPUT)), 0, 4)]
        for _ in range(20):
            x, r = (slots[rng.integers(len(slots))] for _ in range(2))
            slots.append(builder.conv2d(x, 0, int(rng.integers(1, 30)), residual=r))
        program = builder.finish((1,))
        for i, a in enumerate(builder.buffers):
            assert a.offset + a.size <= program.arena_size
            for b in builder.buffers[:i]:
                together = a.first <= b.last and b.first <= a.last
                assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_memory_is_reused() -> None:
    builder = Builder()
    x = Slot.whole(Buffer(16, 16, 3, space=INPUT))
    for _ in range(10):
        x = builder.conv2d(x, 0, 16)
    assert builder.finish((1,)).arena_size == 2 * 16 * 16 * 16


def test_images_of_a_batch_are_independent() -> None:
    program, weights = small_program()
    batch = run(program, weights, images=5)
    assert np.isfinite(batch).all()
    assert np.array_equal(batch[:1], run(program, weights))


@pytest.mark.parametrize(
    ("step", "column", "value", "text"),
    [
        (0, 0, 9, "unknown kind"),
        (0, 1, 2, "unknown space"),
        (0, 2, -1, "does not fit"),
        (0, 3, 2, "does not fit"),
        (0, 4, 9, "does not fit|do not lead"),
        (0, 6, 4, "packed values"),
        (0, 8, 10**9, "does not fit"),
        (0, 8, 2**62, "does not fit"),
        (0, 12, 9, "does not fit|packed values"),
        (0, 13, 5, "do not lead|packed values"),
        (0, 14, 0, "stride 0"),
        (0, 16, 7, "activation must be"),
        (0, 19, 3, "no weight 3"),
        (0, 19, 1, "packed values"),
        (1, 12, 7, "channels must stay the same|do not lead"),
        (2, 17, 10**7, "residual of"),
        (1, 17, 0, "only a convolution has a residual"),
        (2, 9, 2**40, "pitches must be positive"),
        (0, 4, 0, "sizes must be positive"),
    ],
)
def test_wrong_programs_are_refused(step: int, column: int, value: int, text: str) -> None:
    program, weights = small_program()
    steps = program.steps.copy()
    steps[step, column] = value
    with pytest.raises(ValueError, match=text):
        run(program, weights, steps)


def test_residual_must_not_be_the_output() -> None:
    builder = Builder()
    a = builder.conv2d(Slot.whole(Buffer(8, 10, 3, space=INPUT)), 0, 8)
    builder.conv2d(a, 1, 8, residual=a, into=a)
    program = builder.finish((1,))
    assert program.steps[1, 0] == CONV2D
    weights = [C.conv2d_pack(np.zeros((8, c, 1, 1), np.float32)) for c in (3, 8)]
    with pytest.raises(ValueError, match="must not be overwritten"):
        run(program, weights)


def test_rejects() -> None:
    program, weights = small_program()
    x = np.zeros((1, 8, 10, 3), np.float32)
    arena = np.zeros(program.arena_size, np.float32)
    with pytest.raises(ValueError, match="the arena must hold"):
        C.forward(x, program.steps, weights, arena[1:].copy(), program.arena_size, [20, 8])
    with pytest.raises(ValueError, match="program must be int64"):
        C.forward(x, program.steps[:, :5].copy(), weights, arena, program.arena_size, [20, 8])
    with pytest.raises(ValueError, match=r"x must be float32 or uint8 \[N, H, W, C\]"):
        C.forward(x.astype(np.float16), program.steps, weights, arena, program.arena_size, [20, 8])
    with pytest.raises(ValueError, match="does not fit"):
        C.forward(x, program.steps, weights, arena, program.arena_size, [19, 8])

"""The operator's registration; what it computes is tested in tests/runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import leyolo._C as C
from cases import channels_last, opcheck
from leyolo.ops import forward
from leyolo.ops._library import on_cuda
from leyolo.runtime.cuda import pack_conv2d
from leyolo.runtime.program import INPUT, OUTPUT, SILU, Buffer, Builder, Slot


def pack(weight: np.ndarray) -> np.ndarray:
    if on_cuda(torch.device("cpu")):  # the kernels' test build
        return pack_conv2d(weight, np.zeros(len(weight), np.float32), "float32")
    return np.asarray(C.conv2d_pack(weight))


def arguments() -> tuple[object, ...]:
    builder = Builder()
    a = builder.conv2d(Slot.whole(Buffer(8, 8, 3, space=INPUT)), 0, 8, kernel=3, stride=2, activation=SILU)
    builder.conv2d(a, 1, 5, into=Slot.whole(Buffer(4, 4, 5, space=OUTPUT)))
    program = builder.finish((16, 5))
    rng = np.random.default_rng(0)
    weights = [torch.from_numpy(pack(rng.standard_normal(s, np.float32))) for s in ((8, 3, 3, 3), (5, 8, 1, 1))]
    x = channels_last(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    return x, torch.from_numpy(program.steps), weights, torch.zeros(program.arena_size), program.arena_size, [16, 5]


def test_numpy_gives_the_same_bits() -> None:
    x, program, weights, arena, size, shape = arguments()
    y = C.forward(
        x.permute(0, 2, 3, 1).numpy(), program.numpy(), [w.numpy() for w in weights], arena.numpy(), size, shape
    )  # fmt: skip
    assert np.array_equal(forward(*arguments()).numpy(), y)


def test_registration() -> None:
    opcheck(torch.ops.leyolo.forward, *arguments())


def test_rejects() -> None:
    x, *rest = arguments()
    with pytest.raises((ValueError, RuntimeError), match="channels_last"):
        forward(x.contiguous(), *rest)


def test_tf32_is_for_dense_convolutions_on_cuda() -> None:
    x, program, *rest = arguments()
    for value in (1, 2):
        program[0, -1] = value
        if value == 1 and on_cuda(torch.device("cpu")):
            continue
        with pytest.raises((ValueError, RuntimeError), match=r"step 0: TF32 \(1\) is for dense convolutions"):
            forward(x, program, *rest)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import leyolo._C as C
from cases import ACTIVATIONS, FLOATS, channels_last, compiled_equals_eager, opcheck
from leyolo.ops import batch_norm_act
from leyolo.ops._library import on_cuda
from leyolo.ops.batch_norm_act import batch_norm_act_reference

# Channels that divide, do not divide and exceed vectors; maps below and above a stretch.
SHAPES = [
    (2, 3, 5, 7),
    (1, 16, 20, 20),
    (3, 24, 31, 17),
    (1, 88, 13, 12),
    (2, 33, 8, 41),
    (16, 96, 20, 20),
    (1, 257, 3, 5),
    (2, 16, 90, 80),
    (1, 5, 100, 90),  # a plane of more than one stretch
]
# CUDA takes channels_last; what it does not take is copied first (test_memory_formats).
FORMATS = [torch.channels_last] if on_cuda(torch.device("cpu")) else [torch.channels_last, torch.contiguous_format]


def make(shape: tuple[int, ...], dtype: torch.dtype, means: float = 5) -> tuple[torch.Tensor, ...]:
    n, c, h, w = shape
    stats = torch.float64 if dtype == torch.float64 else torch.float32
    x = channels_last(3 * torch.randn(n, c, h, w, dtype=torch.float64) + means * torch.randn(c, 1, 1)).to(dtype)
    return x, torch.rand(c, dtype=stats) + 0.5, torch.randn(c, dtype=stats)


def running(channels: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(channels, dtype=dtype), torch.rand(channels, dtype=dtype) + 0.5


def stored(tensors: tuple[torch.Tensor, ...], layout: torch.memory_format) -> tuple[torch.Tensor, ...]:
    return tuple(t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in tensors)


@pytest.mark.parametrize("layout", FORMATS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    training: bool,
    layout: torch.memory_format,
    as_good_as_torch: Callable[..., None],
) -> None:
    inputs = stored((*make(shape, dtype), *running(shape[1])), layout)
    copies = [t.clone() for t in inputs]
    y = batch_norm_act(*copies, training=training, activation="silu")
    as_good_as_torch(y, fresh, *inputs, training=training, activation="silu")
    for i in (3, 4):
        if training:
            as_good_as_torch(copies[i], statistic, *inputs, which=i)
        else:
            assert torch.equal(copies[i], inputs[i])


def fresh(*inputs: torch.Tensor, **options: Any) -> torch.Tensor:
    """Plain torch on copies: the running statistics of the case stay what they are."""
    return batch_norm_act_reference(*(t.clone() for t in inputs), **options)


def statistic(*inputs: torch.Tensor, which: int) -> torch.Tensor:
    copies = [t.clone() for t in inputs]
    batch_norm_act_reference(*copies, training=True)
    return copies[which]


@pytest.mark.parametrize("layout", FORMATS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    training: bool,
    layout: torch.memory_format,
    as_good_as_torch: Callable[..., None],
) -> None:
    # The mean is kept as float32, as torch keeps it: where it is large its last bit shows in the gradient of weight.
    inputs = stored(
        (*make(shape, dtype, means=1), *running(shape[1]), channels_last(torch.randn(shape)).to(dtype)), layout
    )

    def gradients(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in tensors[:3]]
        y = function(*leaves, *(t.clone() for t in tensors[3:5]), training=training, activation="silu")
        return torch.autograd.grad(y, leaves, tensors[5])

    ours = gradients(batch_norm_act, *inputs)
    for i in range(3):
        factor = 2 if shape[0] * shape[2] * shape[3] >= 400 or not i else 4  # the error of a sum of few is luck
        as_good_as_torch(ours[i], lambda *t, i=i: gradients(batch_norm_act_reference, *t)[i], *inputs, factor=factor)


@pytest.mark.parametrize("layout", FORMATS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(activation: str, training: bool, layout: torch.memory_format) -> None:
    inputs = [t.requires_grad_() for t in stored(make((2, 3, 3, 2), torch.float64), layout)]
    stats = running(3, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *t: batch_norm_act(*t, *(s.clone() for s in stats), training=training, activation=activation), inputs
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, as_good_as_torch: Callable[..., None]) -> None:
    inputs = make((2, 20, 12, 15), torch.float32)
    y = batch_norm_act(*inputs, training=True, activation=activation)
    as_good_as_torch(y, fresh, *inputs, training=True, activation=activation)


def test_a_mean_far_from_zero_keeps_its_variance(as_good_as_torch: Callable[..., None]) -> None:
    x = channels_last(1000 + torch.randn(4, 8, 40, 40))
    as_good_as_torch(batch_norm_act(x, training=True), lambda x: fresh(x, training=True), x)


def test_without_weight_and_without_running_statistics() -> None:
    x, weight, bias = make((2, 5, 6, 7), torch.float32)
    torch.testing.assert_close(batch_norm_act(x), F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(
        batch_norm_act(x, weight, bias, training=True), F.batch_norm(x, None, None, weight, bias, training=True)
    )


@pytest.mark.parametrize("training", [True, False])
def test_two_values_and_none(training: bool) -> None:
    x, weight, bias = (t.requires_grad_() for t in make((2, 3, 1, 1), torch.float32))
    stats = running(3)
    ours, plain = (
        f(x, weight, bias, *(s.clone() for s in stats), training=training, activation="silu")
        for f in (batch_norm_act, batch_norm_act_reference)
    )
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(y, (x, weight, bias), upstream) for y in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    empty = torch.zeros(0, 3, 4, 4, requires_grad=True)
    y = batch_norm_act(empty, weight, bias, *stats)
    assert y.shape == empty.shape
    assert all(torch.equal(g, torch.zeros_like(g)) for g in torch.autograd.grad(y.sum(), (empty, weight, bias)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_numpy_gives_the_same_bits(dtype: type, training: bool) -> None:
    x, weight, bias = make((2, 21, 11, 13), torch.from_numpy(np.zeros(1, dtype)).dtype)
    stats = running(21, weight.dtype)
    arrays = [t.numpy() for t in (x.permute(0, 2, 3, 1), weight, bias, *(() if training else stats))]
    found = C.batch_norm_act(*arrays, activation="silu")
    y = found[0] if training else found
    expected = batch_norm_act(x, weight, bias, *(s.clone() for s in stats), training=training, activation="silu")
    assert y.dtype == dtype
    assert np.array_equal(y, expected.permute(0, 2, 3, 1).numpy())
    if training:
        flat = arrays[0].astype(np.float64).reshape(-1, 21)
        np.testing.assert_allclose(found[1], flat.mean(0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found[2], flat.var(0), rtol=1e-5)
    with pytest.raises(ValueError, match="both or not at all"):
        C.batch_norm_act(arrays[0], mean=stats[0].numpy())


@pytest.mark.parametrize("shape", [(2, 0, 3, 3), (0, 5, 4, 4), (2, 5, 0, 4)], ids=str)
def test_nothing(shape: tuple[int, ...]) -> None:
    x, weight, bias = torch.zeros(shape), torch.ones(shape[1]), torch.zeros(shape[1])
    stats = running(shape[1])
    before = [s.clone() for s in stats]
    for training in (False, True):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = batch_norm_act(*leaves, *stats, training=training)
        gradients = torch.autograd.grad(y.sum(), leaves)
        assert [g.shape for g in gradients] == [t.shape for t in leaves]
        assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)
    assert all(torch.equal(a, b) for a, b in zip(stats, before, strict=True))


@pytest.mark.parametrize("area", [(1, 2), (3, 3), (5, 6), (4, 8)], ids=str)
def test_small_planes(area: tuple[int, int], as_good_as_torch: Callable[..., None]) -> None:
    """Below and at the size from which planes are read as they lie."""
    x, weight, bias = stored(make((4, 33, *area), torch.float32), torch.contiguous_format)
    y = batch_norm_act(x, weight, bias, training=True, activation="silu")
    assert y.is_contiguous()
    as_good_as_torch(y, fresh, x, weight, bias, training=True, activation="silu")


def test_memory_formats() -> None:
    x, weight, bias = make((2, 7, 9, 9), torch.float32)
    last, first = (batch_norm_act(t, weight, bias, training=True) for t in (x, x.contiguous()))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    torch.testing.assert_close(last, first)
    # Gradients come in any memory, and go in that of x.
    for t in (x, x.contiguous()):
        t = t.detach().requires_grad_()
        for gradient in (torch.ones_like(x), torch.ones(x.shape)):
            (found,) = torch.autograd.grad(batch_norm_act(t, weight, bias, training=True), t, gradient)
            assert found.stride() == t.stride() or on_cuda(t.device)


def test_gradients_only_where_wanted() -> None:
    x, weight, bias = make((1, 4, 6, 6), torch.float32)
    weight.requires_grad_()
    batch_norm_act(x, weight, bias, training=True, activation="silu").sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    assert bias.grad is None


@pytest.mark.parametrize("layout", FORMATS, ids=str)
def test_registration(layout: torch.memory_format) -> None:
    inputs = [t.requires_grad_() for t in stored(make((2, 5, 8, 7), torch.float32), layout)]
    stats = running(5)
    opcheck(torch.ops.leyolo.batch_norm_act, *inputs, None, None, 1e-5, "silu")
    opcheck(torch.ops.leyolo.batch_norm_act, *inputs, *stats, 1e-5, "silu")
    compiled_equals_eager(
        lambda *t: batch_norm_act(*t, training=True, activation="silu"), *(t.detach() for t in inputs)
    )


def test_compiled_training_updates_the_running_statistics() -> None:
    inputs = make((2, 5, 8, 7), torch.float32)
    stats = running(5)
    eager, compiled = ([s.clone() for s in stats] for _ in range(2))
    batch_norm_act(*inputs, *eager, training=True)
    torch._dynamo.reset()
    torch.compile(batch_norm_act, fullgraph=True, backend="aot_eager")(*inputs, *compiled, training=True)
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))


def test_autocast_keeps_half_inputs_and_float_statistics() -> None:
    x, weight, bias = make((2, 6, 5, 5), torch.bfloat16)
    stats = running(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = batch_norm_act(x, weight, bias, *stats, training=True, activation="silu")
    assert y.dtype == torch.bfloat16
    assert stats[0].dtype == torch.float32


@pytest.mark.parametrize("layout", FORMATS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(layout: torch.memory_format) -> None:
    leaves = [t.requires_grad_() for t in stored(make((4, 40, 30, 30), torch.float32), layout)]
    results = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            y = batch_norm_act(*leaves, training=True, activation="silu")
            results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight": torch.zeros(4)}, r"weight must be float32 \[5\]"),
        ({"bias": torch.zeros(5, 1)}, r"bias must be float32 \[5\]"),
        ({"x": torch.zeros(5, 6, 6)}, r"x must be \[N, C, H, W\]"),
        ({"x": torch.zeros(2, 5, 6, 6, dtype=torch.int64)}, "x must be float32, float64, float16 or bfloat16"),
        ({"x": torch.zeros(1, 5, 1, 1)}, "expected more than 1 value per channel"),
        ({"running_mean": torch.zeros(5)}, "must be given both"),
        ({"activation": "gelu"}, "activation must be none, silu, relu, relu6 or hardswish, got 'gelu'"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"x": torch.zeros(2, 5, 6, 6), "training": True, **change}
    with pytest.raises((ValueError, RuntimeError), match=text):
        batch_norm_act(**arguments)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import leyolo._C as C
from cases import ACTIVATIONS, FLOATS, channels_last, compiled_equals_eager, opcheck
from leyolo.ops import depthwise_conv2d
from leyolo.ops.depthwise_conv2d import depthwise_conv2d_reference

# channels, height, width, kernel, stride: tails of every vector length, maps below and above a strip, no image.
SHAPES = [
    (1, 1, 1, 1, 1, 1),
    (2, 3, 5, 7, 3, 1),
    (1, 16, 20, 20, 5, 1),
    (2, 17, 23, 31, 5, 2),
    (1, 24, 9, 4, 3, 2),
    (1, 88, 13, 12, 7, 1),
    (1, 33, 8, 41, 7, 2),
    (1, 48, 3, 2, 5, 1),
    (1, 40, 13, 13, 3, 1),
    (1, 20, 1, 26, 5, 1),
    (1, 20, 26, 1, 3, 2),
    (1, 16, 33, 65, 3, 2),
    (2, 35, 2, 7, 5, 2),
    (1, 5, 11, 14, 2, 1),
    (1, 6, 10, 9, 4, 3),
    (0, 8, 6, 6, 3, 1),
]


def make(n: int, c: int, h: int, w: int, k: int, dtype: torch.dtype, device: str = "cpu") -> tuple[torch.Tensor, ...]:
    x = channels_last(torch.randn(n, c, h, w, device=device)).to(dtype)
    return x, (torch.randn(c, 1, k, k, device=device) / k).to(dtype), torch.randn(c, device=device).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape: tuple[int, ...], dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    *size, kernel, stride = shape
    x, weight, bias = make(*size, kernel, dtype)
    options = {"stride": stride, "padding": kernel // 2, "activation": "silu"}
    y = depthwise_conv2d(x, weight, bias, **options)
    as_good_as_torch(y, depthwise_conv2d_reference, x, weight, bias, **options)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, as_good_as_torch: Callable[..., None]) -> None:
    x, weight, bias = make(2, 20, 12, 15, 3, torch.float32)
    y = depthwise_conv2d(4 * x, weight, bias, padding=1, activation=activation)
    as_good_as_torch(y, depthwise_conv2d_reference, 4 * x, weight, bias, padding=1, activation=activation)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"stride": 3, "padding": 4, "dilation": 3},
        {"stride": (1, 2), "padding": (3, 1)},
        {"padding": 0},
    ],
)
def test_uneven_windows(options: dict[str, Any], as_good_as_torch: Callable[..., None]) -> None:
    x, _, bias = make(2, 19, 17, 22, 1, torch.float32)
    weight = torch.randn(19, 1, 3, 5)
    as_good_as_torch(
        depthwise_conv2d(x, weight, bias, **options), depthwise_conv2d_reference, x, weight, bias, **options
    )


def test_without_bias_and_from_nchw() -> None:
    x, weight, _ = make(1, 7, 9, 9, 3, torch.float32)
    last = depthwise_conv2d(x, weight, padding=1)
    first = depthwise_conv2d(x.contiguous(), weight, padding=1)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(last, first)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_numpy_gives_the_same_bits(dtype: type) -> None:
    x, weight, bias = (t.to(torch.from_numpy(np.zeros(1, dtype)).dtype) for t in make(2, 21, 11, 13, 5, torch.float32))
    y = C.depthwise_conv2d(
        x.permute(0, 2, 3, 1).numpy(), weight.numpy(), bias.numpy(), stride=(2, 1), padding=2, activation="silu"
    )
    expected = depthwise_conv2d(x, weight, bias, stride=(2, 1), padding=2, activation="silu")
    assert np.array_equal(y, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(activation: str) -> None:
    x, weight, bias = (t.requires_grad_() for t in make(2, 3, 5, 4, 3, torch.float64))
    assert torch.autograd.gradcheck(
        lambda *t: depthwise_conv2d(*t, stride=(2, 1), padding=1, activation=activation), (x, weight, bias)
    )


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0]])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients(shape: tuple[int, ...], dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    *size, kernel, stride = shape
    inputs = make(*size, kernel, dtype)
    options = {"stride": stride, "padding": kernel // 2, "activation": "silu"}
    upstream = torch.randn_like(depthwise_conv2d_reference(*inputs, **options))

    def gradients(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in tensors[:3]]
        return torch.autograd.grad(function(*leaves, **options), leaves, tensors[3])

    ours = gradients(depthwise_conv2d, *inputs, upstream)
    for i in range(3):
        # Sums over the whole batch; torch's own backward rounds intermediate half tensors, ours does not.
        as_good_as_torch(
            ours[i], lambda *t, i=i: gradients(depthwise_conv2d_reference, *t)[i], *inputs, upstream, factor=3
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["silu", "relu", "relu6"])
def test_nan_and_infinity_stay_what_they_are(activation: str, dtype: torch.dtype) -> None:
    x = torch.tensor([torch.nan, torch.inf, -1e30, 1e30], dtype=dtype).reshape(1, 1, 1, 4)
    weight = torch.ones(1, 1, 1, 1, dtype=dtype)
    ours = depthwise_conv2d(x, weight, activation=activation)
    torch.testing.assert_close(ours, depthwise_conv2d_reference(x, weight, activation=activation), equal_nan=True)


@pytest.mark.parametrize("shape", [(0, 8, 6, 6), (2, 0, 6, 6)])
@pytest.mark.parametrize("activation", ["none", "silu"])
def test_gradients_of_nothing(shape: tuple[int, ...], activation: str) -> None:
    x, weight, bias = torch.zeros(shape), torch.ones(shape[1], 1, 3, 3), torch.ones(shape[1])
    leaves = [t.requires_grad_() for t in (channels_last(x), weight, bias)]
    y = depthwise_conv2d(*leaves, padding=1, activation=activation)
    for leaf, gradient in zip(leaves, torch.autograd.grad(y.sum(), leaves), strict=True):
        assert gradient.shape == leaf.shape
        assert not gradient.any()


def test_gradients_only_where_wanted() -> None:
    x, weight, bias = make(1, 4, 6, 6, 3, torch.float32)
    weight.requires_grad_()
    depthwise_conv2d(x, weight, bias, padding=1, activation="silu").sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    assert bias.grad is None


def test_registration() -> None:
    x, weight, bias = make(2, 5, 8, 7, 3, torch.float32)
    for t in (x, weight, bias):
        t.requires_grad_()
    opcheck(torch.ops.leyolo.depthwise_conv2d, x, weight, bias, [2, 1], [1, 1], [1, 1], "silu")
    compiled_equals_eager(depthwise_conv2d, x, weight, bias, stride=2, padding=1, activation="silu")


def test_any_number_of_threads_gives_the_same_bits() -> None:
    x, weight, bias = make(1, 70, 40, 40, 5, torch.float32)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    results = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            y = depthwise_conv2d(*leaves, padding=2, activation="silu")
            results.append([y, *torch.autograd.grad(y.sum(), leaves)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight": torch.zeros(4, 1, 3, 3)}, r"weight must be \[C, 1, kh, kw\] with the C = 5 channels"),
        ({"weight": torch.zeros(5, 2, 3, 3)}, r"weight must be \[C, 1, kh, kw\]"),
        ({"weight": torch.zeros(5, 1, 3, 3, dtype=torch.float64)}, "must share a dtype"),
        ({"bias": torch.zeros(4)}, r"bias must be \[5\]"),
        ({"x": torch.zeros(5, 6, 6)}, r"x must be \[N, C, H, W\]"),
        ({"x": torch.zeros(1, 5, 6, 6, dtype=torch.int64)}, "dtype"),
        ({"stride": 0}, "stride and dilation must be positive"),
        ({"padding": 2**63 - 1}, "all at most 1048576"),
        ({"padding": 2**32 + 1, "dilation": 2**32 + 1}, "all at most 1048576"),
        ({"stride": (1, 2, 3)}, "must be an int or a pair"),
        ({"dilation": 4}, "does not fit"),
        ({"padding": -1}, "padding not negative"),
        ({"activation": "gelu"}, "activation must be none, silu, relu, relu6 or hardswish, got 'gelu'"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {
        "x": torch.zeros(1, 5, 6, 6),
        "weight": torch.zeros(5, 1, 3, 3),
        "bias": torch.zeros(5),
    }
    arguments.update(change)
    with pytest.raises((ValueError, RuntimeError), match=text):
        depthwise_conv2d(arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias"), **arguments)


def test_numpy_rejects() -> None:
    x, weight = np.zeros((1, 6, 6, 5), np.float32), np.zeros((5, 1, 3, 3), np.float32)
    with pytest.raises(ValueError, match="C-contiguous"):
        C.depthwise_conv2d(x[:, ::2], weight)
    with pytest.raises(ValueError, match="must share a dtype"):
        C.depthwise_conv2d(x, weight.astype(np.float64))
    with pytest.raises(ValueError, match="must not share memory"):
        C.depthwise_conv2d(x, weight, padding=1, out=x)
    with pytest.raises(ValueError, match="out must be writeable float32"):
        C.depthwise_conv2d(x, weight, out=np.zeros((1, 4, 4, 4), np.float32))

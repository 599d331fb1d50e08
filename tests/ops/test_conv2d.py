from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import leyolo._C as C
from cases import ACTIVATIONS, FLOATS, channels_last, compiled_equals_eager, opcheck
from leyolo.ops import conv2d
from leyolo.ops.conv2d import conv2d_reference

# images, in, height, width, out, kernel, stride: every tile width with tails, the stem, borders wider than the image.
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 16, 5, 7, 16, 1, 1),
    (1, 24, 9, 11, 128, 1, 1),
    (1, 37, 10, 10, 88, 1, 1),
    (1, 96, 20, 20, 80, 1, 1),
    (2, 8, 3, 2, 48, 1, 1),
    (1, 3, 32, 37, 16, 3, 2),
    (1, 3, 16, 16, 24, 3, 2),
    (1, 32, 15, 14, 64, 3, 2),
    (1, 5, 1, 2, 7, 3, 1),
    (1, 4, 9, 8, 33, 5, 1),
    (1, 6, 12, 12, 20, 1, 2),
    (0, 4, 6, 6, 8, 1, 1),
]


def make(n: int, c: int, h: int, w: int, o: int, k: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    x = channels_last(torch.randn(n, c, h, w)).to(dtype)
    return x, (torch.randn(o, c, k, k) / (k * c**0.5)).to(dtype), torch.randn(o).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape: tuple[int, ...], dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    *size, kernel, stride = shape
    x, weight, bias = make(*size, kernel, dtype)
    options = {"stride": stride, "padding": kernel // 2, "activation": "silu"}
    as_good_as_torch(conv2d(x, weight, bias, **options), conv2d_reference, x, weight, bias, **options)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_residual_comes_after_the_activation(
    activation: str, kernel: int, as_good_as_torch: Callable[..., None]
) -> None:
    x, weight, bias = make(2, 20, 12, 15, 20, kernel, torch.float32)
    y = conv2d(x, weight, bias, x, padding=kernel // 2, activation=activation)
    as_good_as_torch(y, conv2d_reference, x, weight, bias, x, padding=kernel // 2, activation=activation)


def test_silu_over_its_whole_range() -> None:
    """Relative error below 5 ulp down to -10 (12 without a fused multiply-add), absolute below 1e-9 beneath."""
    x = torch.cat([torch.linspace(-110, 110, 200_001), torch.tensor([0.0, -0.0, 1e30, -1e30, torch.inf])])
    y = conv2d(channels_last(x.reshape(1, 1, 1, -1)), torch.ones(1, 1, 1, 1), activation="silu").flatten()
    exact = torch.nn.functional.silu(x.double())
    assert y[-1] == torch.inf
    error, upper = (y.double() - exact).abs()[:-1], x[:-1] >= -10
    ulps = 12 if C.cpu_features()["isa"] == "baseline" else 5
    assert (error[upper] <= ulps * 2**-23 * exact[:-1][upper].abs()).all()
    assert error[~upper].max() < 1e-9
    assert conv2d(torch.full((1, 1, 1, 1), torch.nan), torch.ones(1, 1, 1, 1), activation="silu").isnan().all()


def test_numpy_gives_the_same_bits() -> None:
    x, weight, bias = make(2, 21, 11, 13, 40, 3, torch.float32)
    y = C.conv2d(x.permute(0, 2, 3, 1).numpy(), weight.numpy(), bias.numpy(), stride=2, padding=1, activation="silu")
    expected = conv2d(x, weight, bias, stride=2, padding=1, activation="silu")
    assert np.array_equal(y, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(activation: str, as_good_as_torch: Callable[..., None]) -> None:
    inputs = (*make(2, 6, 9, 8, 6, 3, torch.float32), torch.randn(2, 6, 9, 8))
    upstream = torch.randn(2, 6, 9, 8)

    def gradients(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in tensors[:4]]
        return torch.autograd.grad(function(*leaves, padding=1, activation=activation), leaves, tensors[4])

    ours = gradients(conv2d, *inputs, upstream)
    for i in range(4):
        as_good_as_torch(ours[i], lambda *t, i=i: gradients(conv2d_reference, *t)[i], *inputs, upstream, factor=3)


def test_registration() -> None:
    x, weight, bias = (t.requires_grad_() for t in make(2, 5, 8, 7, 9, 3, torch.float32))
    opcheck(torch.ops.leyolo.conv2d, x, weight, bias, None, 2, 1, "silu")
    compiled_equals_eager(conv2d, x, weight, bias, stride=2, padding=1, activation="silu")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weight": torch.zeros(4, 3, 1, 1)}, r"weight must be \[O, 5, k, k\]"),
        ({"weight": torch.zeros(4, 5, 1, 3)}, r"weight must be \[O, C, k, k\]"),
        ({"bias": torch.zeros(3)}, r"bias must be \[O\]"),
        ({"x": torch.zeros(5, 6, 6)}, r"must be \[N, C, H, W\]"),
        ({"x": torch.zeros(1, 5, 6, 6, dtype=torch.float64)}, "dtype of x|float32, float16 or bfloat16"),
        ({"residual": torch.zeros(1, 4, 5, 5)}, "residual must be as the output"),
        ({"stride": 0}, "stride and dilation must be positive"),
        ({"stride": 2**32}, "all at most 1048576"),
        ({"padding": 2**63 - 1}, "all at most 1048576"),
        ({"weight": torch.zeros(0, 5, 1, 1)}, "not empty|weight must be"),
        ({"x": torch.zeros(1, 0, 6, 6), "weight": torch.zeros(4, 0, 1, 1)}, "weight must be|at least one channel"),
        ({"weight": torch.zeros(4, 5, 9, 9)}, "do not lead from"),
        ({"activation": "tanh"}, "got 'tanh'"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {
        "x": torch.zeros(1, 5, 6, 6), "weight": torch.zeros(4, 5, 1, 1), "bias": torch.zeros(4), "residual": None,
    }  # fmt: skip
    arguments.update(change)
    tensors = [arguments.pop(name) for name in ("x", "weight", "bias", "residual")]
    with pytest.raises((ValueError, RuntimeError), match=text):
        conv2d(*tensors, **arguments)


def test_numpy_rejects() -> None:
    x, weight = np.zeros((1, 6, 6, 4), np.float32), np.zeros((4, 4, 1, 1), np.float32)
    with pytest.raises(ValueError, match="must not share memory"):
        C.conv2d(x, weight, out=x)
    with pytest.raises(ValueError, match=r"at least one channel|weight must be"):
        C.conv2d(np.zeros((1, 6, 6, 0), np.float32), np.zeros((4, 0, 1, 1), np.float32))
    with pytest.raises(ValueError, match="C-contiguous"):
        C.conv2d(x[:, ::2], weight)


@pytest.mark.parametrize("channels", [1, 16, 48, 80, 96, 144, 577])
def test_tiles_cover_the_channels_once(channels: int) -> None:
    lanes = {"baseline": 4, "avx2": 8, "avx512": 16}[C.cpu_features()["isa"]]
    tiles = C.conv2d_tiles(channels)
    assert sum(vectors for _, vectors in tiles) == -(-channels // lanes)
    assert all(1 <= pixels <= 16 and 1 <= vectors <= 4 for pixels, vectors in tiles)
    # What they hold at the same time: sums, the weights of one input channel, one input value.
    assert all(pixels * vectors + vectors + 1 <= (32 if lanes == 16 else 16) for pixels, vectors in tiles)
    with pytest.raises(ValueError, match="got 0"):
        C.conv2d_tiles(0)

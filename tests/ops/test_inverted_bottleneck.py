from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import leyolo._C as C
from cases import ACTIVATIONS, FLOATS, channels_last, compiled_equals_eager, opcheck
from leyolo.models.config import CONFIGS, SIZES
from leyolo.ops import inverted_bottleneck
from leyolo.ops.inverted_bottleneck import inverted_bottleneck_reference

# images, height, width, in, middle, out, kernel, stride, expand?, residual?
SHAPES = [
    (2, 20, 20, 16, 96, 32, 3, 2, True, False),
    (1, 13, 17, 32, 96, 32, 3, 1, True, True),
    (1, 10, 10, 64, 192, 64, 5, 1, True, True),
    (1, 9, 8, 24, 128, 48, 5, 2, True, False),
    (1, 12, 11, 136, 136, 48, 3, 1, False, False),
    (1, 1, 1, 8, 16, 8, 5, 1, True, True),
    (0, 8, 8, 8, 16, 8, 3, 1, True, False),
]
Tensors = tuple[torch.Tensor | None, ...]


def make(shape: tuple[Any, ...], dtype: torch.dtype) -> tuple[Tensors, dict[str, Any]]:
    n, h, w, c, m, o, k, stride, expand, residual = shape
    tensors = [
        channels_last(torch.randn(n, c, h, w)),
        torch.randn(m, c, 1, 1) / c**0.5 if expand else None,
        torch.randn(m) if expand else None,
        torch.randn(m, 1, k, k) / k,
        torch.randn(m),
        torch.randn(o, m, 1, 1) / m**0.5,
        torch.randn(o),
    ]
    return tuple(None if t is None else t.to(dtype) for t in tensors), {"stride": stride, "residual": residual}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape: tuple[Any, ...], dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    tensors, options = make(shape, dtype)
    as_good_as_torch(inverted_bottleneck(*tensors, **options), inverted_bottleneck_reference, *tensors, **options)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_border_is_zero_after_the_activation(activation: str, as_good_as_torch: Callable[..., None]) -> None:
    """A large expand bias makes silu(bias) visible at the border if the padding came before the activation."""
    tensors, options = make((1, 6, 6, 4, 12, 4, 5, 1, True, True), torch.float32)
    tensors = (*tensors[:2], torch.full((12,), 5.0), *tensors[3:])
    y = inverted_bottleneck(*tensors, activation=activation, **options)
    as_good_as_torch(y, inverted_bottleneck_reference, *tensors, activation=activation, **options)


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4]])
def test_numpy_gives_the_same_bits(shape: tuple[Any, ...]) -> None:
    tensors, options = make(shape, torch.float32)
    arrays = [None if t is None else t.numpy() for t in tensors[1:]]
    assert tensors[0] is not None
    y = C.inverted_bottleneck(tensors[0].permute(0, 2, 3, 1).numpy(), *arrays, **options)
    assert np.array_equal(y, inverted_bottleneck(*tensors, **options).permute(0, 2, 3, 1).numpy())


def blocks(size: str) -> list[tuple[Any, ...]]:
    """The shapes of all blocks of a network, as in SHAPES, at an image size that makes maps of odd sizes."""
    found = []
    for layer in CONFIGS[size].layers:
        if layer.kind == "bottleneck":
            side = 96 // layer.reduction * layer.stride
            middle = layer.expand if layer.has_expansion else layer.in_channels
            shape = 1, side, side, layer.in_channels, middle, layer.out_channels
            found.append((*shape, layer.kernel, layer.stride, layer.has_expansion, layer.residual))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("size", SIZES)
def test_row_by_row_gives_the_same_bits_in_every_block(size: str) -> None:
    assert len(blocks(size)) > 10
    before = C.num_threads()
    try:
        for shape in blocks(size):
            tensors, options = make(shape, torch.float32)
            x, *weights = [
                None if t is None else t.permute(0, 2, 3, 1).numpy() if i == 0 else t.numpy()
                for i, t in enumerate(tensors)
            ]
            C.set_num_threads(1)
            expected = C.inverted_bottleneck(x, *weights, **options, share=math.inf)
            assert np.isfinite(expected).all()
            for threads in (1, 2, 3):
                C.set_num_threads(threads)
                assert np.array_equal(C.inverted_bottleneck(x, *weights, **options, share=0), expected)
    finally:
        C.set_num_threads(before)


@pytest.mark.parametrize("stride", [1, 2])
def test_maps_that_leave_the_cache(stride: int, as_good_as_torch: Callable[..., None]) -> None:
    """What the byte model streams by itself on any machine: float32, and half precision through copies."""
    rows = 4 * C.cpu_features()["l2_bytes"] // (4 * 64 * 32)
    tensors, options = make((1, rows, 32, 16, 64, 16, 3, stride, True, stride == 1), torch.float32)
    as_good_as_torch(inverted_bottleneck(*tensors, **options), inverted_bottleneck_reference, *tensors, **options)


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[3], SHAPES[4]])
def test_gradients(shape: tuple[Any, ...], as_good_as_torch: Callable[..., None]) -> None:
    tensors, options = make(shape, torch.float32)
    present = [i for i, t in enumerate(tensors) if t is not None]
    upstream = torch.randn_like(inverted_bottleneck_reference(*tensors, **options))

    def gradients(function: Callable[..., torch.Tensor], *inputs: Any) -> tuple[torch.Tensor, ...]:
        leaves = [None if t is None else t.detach().requires_grad_() for t in inputs[:7]]
        return torch.autograd.grad(function(*leaves, **options), [t for t in leaves if t is not None], inputs[7])

    ours = gradients(inverted_bottleneck, *tensors, upstream)
    for i in range(len(present)):
        as_good_as_torch(
            ours[i], lambda *t, i=i: gradients(inverted_bottleneck_reference, *t)[i], *tensors, upstream, factor=3
        )


def test_registration() -> None:
    tensors, options = make(SHAPES[1], torch.float32)
    for t in tensors:
        assert t is not None
        t.requires_grad_()
    opcheck(torch.ops.leyolo.inverted_bottleneck, *tensors, 1, "silu", True)
    compiled_equals_eager(inverted_bottleneck, *tensors, **options)


@pytest.mark.parametrize(
    ("index", "value", "options", "text"),
    [
        (0, torch.zeros(8, 6, 6), {}, r"must be \[N, C, H, W\]"),
        (1, torch.zeros(16, 7, 1, 1), {}, r"expand_weight must be \[16, 8, 1, 1\]"),
        (1, None, {}, "without expand_weight"),
        (2, torch.zeros(3), {}, r"expand_bias must be \[16\]"),
        (3, torch.zeros(16, 1, 4, 4), {}, "odd k"),
        (4, torch.zeros(15), {}, r"depthwise_bias must be \[16\]"),
        (5, torch.zeros(8, 16, 1, 1, dtype=torch.float16), {}, "must share dtype"),
        (6, torch.zeros(9), {}, r"project_bias must be \[8\]"),
        (6, torch.zeros(8), {"stride": 2, "residual": True}, "a residual needs stride 1"),
        (6, torch.zeros(8), {"stride": 0}, "stride and dilation must be positive"),
        (6, torch.zeros(8), {"activation": "gelu"}, "got 'gelu'"),
    ],
)
def test_rejects(index: int, value: torch.Tensor | None, options: dict[str, Any], text: str) -> None:
    tensors: list[torch.Tensor | None] = list(make((1, 6, 6, 8, 16, 8, 3, 1, True, False), torch.float32)[0])
    tensors[index] = value
    with pytest.raises((ValueError, RuntimeError), match=text):
        inverted_bottleneck(*tensors, **options)

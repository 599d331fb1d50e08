from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import ACTIVATIONS, channels_last, compiled_equals_eager, opcheck
from leyolo.models.config import CONFIGS
from leyolo.ops import ConvNorm, inverted_bottleneck_norm
from leyolo.ops._library import library
from leyolo.ops.inverted_bottleneck_norm import inverted_bottleneck_norm_reference

# images, height, width, in, middle, out, kernel, stride, expand?, residual?
Shape = tuple[int, int, int, int, int, int, int, int, bool, bool]
SHAPES: list[Shape] = [
    (2, 20, 20, 16, 96, 32, 3, 2, True, False),
    (1, 13, 17, 32, 96, 32, 3, 1, True, True),
    (2, 10, 10, 64, 192, 64, 5, 1, True, True),
    (3, 9, 8, 24, 120, 48, 5, 2, True, False),
    (1, 12, 11, 136, 136, 48, 3, 1, False, False),
    (2, 21, 20, 8, 8, 8, 3, 1, False, True),
    (2, 7, 9, 5, 13, 7, 5, 2, True, False),  # tails of vectors everywhere
    (1, 6, 7, 3, 5, 3, 7, 1, True, True),  # a window as large as the map
    (1, 5, 9, 6, 10, 4, 1, 2, True, False),  # rows that no output reads
    (1, 8, 8, 4, 6, 5, 4, 1, True, False),  # an even kernel
    (1, 40, 41, 16, 64, 16, 3, 2, True, False),  # several bands of an image
    (40, 4, 4, 8, 16, 8, 3, 1, True, True),  # more images than pieces
    (1, 160, 64, 40, 60, 40, 3, 1, True, True),  # bands that do not fit into the cache at once
    (1, 2, 1, 8, 16, 8, 3, 1, True, True),
    (2, 40, 40, 16, 64, 255, 3, 1, True, False),  # sums of more channels at the end than in the middle
]


def make(shape: Shape) -> tuple[list[Tensor], dict[str, Any]]:
    """x, then weight, bias, norm weight and norm bias of every layer."""
    n, h, w, c, m, o, k, stride, expand, residual = shape
    tensors = [channels_last(torch.randn(n, c, h, w) + 1)]
    weights = [torch.randn(m, c, 1, 1) / c**0.5] if expand else []
    weights += [torch.randn(m, 1, k, k) / k, torch.randn(o, m, 1, 1) / m**0.5]
    for weight in weights:
        tensors += [weight, torch.randn(len(weight)), torch.rand(len(weight)) + 0.5, torch.randn(len(weight))]
    return tensors, {"stride": stride, "residual": residual, "eps": 1e-3, "momentum": 0.3}


def layers(tensors: list[Tensor]) -> list[ConvNorm | None]:
    found: list[ConvNorm | None] = [ConvNorm(*tensors[i : i + 4]) for i in range(1, len(tensors), 4)]
    return [None] * (3 - len(found)) + found


def results(function: Any, *tensors: Tensor, **options: Any) -> list[Tensor]:
    """y, its gradients with respect to everything, then the running statistics."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    each = layers(leaves)
    each = [e and e._replace(running_mean=torch.ones_like(e.bias), running_var=torch.ones_like(e.bias)) for e in each]
    y = function(leaves[0], *each, **options)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    gradients = torch.autograd.grad(y, leaves, upstream)
    statistics = [t.detach() for e in each if e for t in e[4:]]
    return [y.detach(), *gradients, *statistics]


def is_bias_of_a_convolution(i: int, tensors: list[Tensor]) -> bool:
    return 2 <= i <= len(tensors) and (i - 3) % 4 == 0


def check_errors(shape: Shape, **more: Any) -> None:
    """Against float64 no output is more than twice as wrong as plain torch's, plus an ulp. The largest error of one
    draw is luck, of sums of few values above all: it is the median of some."""
    draws = max(3, min(25, 10000 // (shape[0] * shape[1] * shape[2])))
    found: dict[int, list[tuple[float, float]]] = {}
    for _ in range(draws):
        tensors, options = make(shape)
        ours = results(inverted_bottleneck_norm, *tensors, **options, **more)
        plain = results(inverted_bottleneck_norm_reference, *tensors, **options, **more)
        exact = results(inverted_bottleneck_norm_reference, *(t.double() for t in tensors), **options, **more)
        for i, (value, theirs, expected) in enumerate(zip(ours, plain, exact, strict=True)):
            if is_bias_of_a_convolution(i, tensors):
                assert not value.any()
                continue
            error, allowed = ((t.double() - expected).abs().max().item() for t in (value, theirs))
            ulp = torch.finfo(value.dtype).eps * expected.abs().max().item()
            found.setdefault(i, []).append((error / ulp, allowed / ulp))
    for i, pairs in found.items():
        error, allowed = (median(each) for each in zip(*pairs, strict=True))
        assert error <= 2 * allowed + 1, f"output {i}: {error:.1f} ulp, torch's own {allowed:.1f}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_gradients_and_statistics(shape: Shape) -> None:
    check_errors(shape)


def blocks() -> list[Shape]:
    """Of the smallest network, at a size that makes maps of odd sides."""
    found: list[Shape] = []
    for layer in CONFIGS["n"].layers:
        if layer.kind == "bottleneck":
            side = 96 // layer.reduction * layer.stride
            middle = layer.expand if layer.has_expansion else layer.in_channels
            channels = layer.in_channels, middle, layer.out_channels
            found.append((2, side, side, *channels, layer.kernel, layer.stride, layer.has_expansion, layer.residual))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("shape", blocks(), ids=str)
def test_blocks_of_the_network(shape: Shape) -> None:
    check_errors(shape)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    check_errors((2, 12, 14, 8, 24, 8, 3, 1, True, True), activation=activation)


def test_the_border_is_zero_behind_the_activation(as_good_as_torch: Callable[..., None]) -> None:
    """A large norm bias shows at the border if the padding came before the activation."""
    tensors, options = make((1, 6, 6, 4, 12, 4, 5, 1, True, True))
    tensors[4] = torch.full((12,), 5.0)
    as_good_as_torch(
        inverted_bottleneck_norm(tensors[0], *layers(tensors), **options),
        lambda *t: inverted_bottleneck_norm_reference(t[0], *layers([*t]), **options),
        *tensors,
    )


@pytest.mark.parametrize(
    "shape", [(3, 30, 30, 16, 48, 16, 5, 1, True, True), (2, 40, 40, 16, 64, 255, 3, 1, True, False)], ids=str
)
def test_the_same_bits_with_any_number_of_threads(shape: Shape) -> None:
    tensors, options = make(shape)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(results(inverted_bottleneck_norm, *tensors, **options))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_memory_formats_and_gradients_in_another_one() -> None:
    tensors, options = make((2, 10, 12, 8, 16, 8, 3, 1, True, True))
    last = results(inverted_bottleneck_norm, *tensors, **options)
    tensors[0] = tensors[0].contiguous()
    first = results(inverted_bottleneck_norm, *tensors, **options)
    assert last[0].is_contiguous(memory_format=torch.channels_last)
    assert first[0].is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(last, first, strict=True))


def test_without_norm_weights_and_without_running_statistics() -> None:
    tensors, options = make((2, 8, 8, 8, 16, 8, 3, 1, True, True))
    each = [ConvNorm(layer.weight) for layer in layers(tensors) if layer]
    torch.testing.assert_close(
        inverted_bottleneck_norm(tensors[0], *each, **options),
        inverted_bottleneck_norm_reference(tensors[0], *each, **options),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_only_some_gradients() -> None:
    """Frozen weights get none, and the others what they get without that."""
    tensors, options = make((2, 9, 9, 6, 12, 6, 3, 1, True, True))
    whole = results(inverted_bottleneck_norm, *tensors, **options)[1 : 1 + len(tensors)]
    for chosen in ([0], [1], [5, 8]):
        leaves = [t.clone().requires_grad_(i in chosen) for i, t in enumerate(tensors)]
        y = inverted_bottleneck_norm(leaves[0], *layers(leaves), **options)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
        for i, leaf in enumerate(leaves):
            assert (leaf.grad is not None) == (i in chosen)
            assert i not in chosen or torch.equal(leaf.grad, whole[i])


@pytest.mark.parametrize("expand", [True, False])
def test_opcheck(expand: bool) -> None:
    tensors, options = make((2, 6, 5, 8, 12 if expand else 8, 8, 3, 1, expand, True))
    t = [None if layer is None else [*layer] for layer in layers(tensors)]
    convolutions = [part for layer in t for part in ([None, None] if layer is None else layer[:2])]
    norms = [part for layer in t for part in ([None, None] if layer is None else layer[2:4])]
    leaves = [None if p is None else p.requires_grad_() for p in (tensors[0], *convolutions, *norms)]
    opcheck(library.inverted_bottleneck_norm.default, *leaves, 1, "silu", True, options["eps"])


def test_compiles() -> None:
    tensors, options = make((2, 6, 5, 8, 12, 8, 3, 1, True, True))

    def step(*tensors: Tensor) -> Tensor:
        return inverted_bottleneck_norm(tensors[0], *layers([*tensors]), **options)

    compiled_equals_eager(step, *tensors)


def _with(position: int, value: Any) -> Callable[[list[Any]], None]:
    def change(tensors: list[Any]) -> None:
        tensors[position] = value

    return change


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (_with(0, torch.zeros(2, 8, 6)), {}, r"x must be|3 dimensions"),
        (_with(0, torch.zeros(2, 7, 6, 6)), {}, r"expand_weight must be float32 \[12, 7, 1, 1\]"),
        (_with(0, torch.zeros(2, 8, 6, 6).double()), {}, r"x must be float32 .*float64"),
        (_with(0, torch.zeros(1, 8, 1, 1)), {}, "more than 1 value per channel"),
        (_with(0, torch.zeros(0, 8, 6, 6)), {}, "more than 1 value per channel"),
        (_with(1, torch.zeros(12, 8, 3, 3)), {}, r"expand_weight must be float32 \[12, 8, 1, 1\]"),
        (_with(2, torch.zeros(11)), {}, r"expand_bias must be float32 \[12\]"),
        (_with(3, torch.zeros(8)), {}, "weights and biases of a norm"),
        (_with(5, torch.zeros(12, 1, 3, 5)), {}, r"depthwise_weight must be float32 \[M, 1, k, k\]"),
        (_with(5, torch.zeros(12, 2, 3, 3)), {}, r"depthwise_weight must be"),
        (_with(9, torch.zeros(8, 11, 1, 1)), {}, r"project_weight must be float32 \[O, 12, 1, 1\]"),
        (_with(10, torch.zeros(8, dtype=torch.float64)), {}, "project_bias must be float32"),
        (_with(0, torch.zeros(2, 8, 0, 6)), {}, "more than 1 value per channel"),
        (_with(0, torch.zeros(2, 8, 6, 0)), {}, "more than 1 value per channel"),
        (_with(0, torch.zeros(2, 0, 6, 6)), {}, "at least one channel"),
        (_with(5, torch.zeros(0, 1, 3, 3)), {}, r"depthwise_weight must be float32 \[M, 1, k, k\]"),
        (_with(9, torch.zeros(0, 12, 1, 1)), {}, "project_weight must be"),
        (_with(9, torch.zeros(7, 12, 1, 1)), {"residual": True}, "residual needs an output of the size"),
        (_with(0, torch.zeros(2, 8, 6, 6)), {"residual": True, "stride": 2}, "3 x 3 .kernel 3, stride 2"),
        (_with(5, torch.zeros(12, 1, 4, 4)), {"residual": True}, "7 x 7 .kernel 4, stride 1"),
        (_with(0, torch.zeros(2, 8, 6, 6)), {"stride": 0}, "stride"),
        (_with(0, torch.zeros(2, 8, 6, 6)), {"eps": -1.0}, "eps must be 0 or more"),
        (_with(0, torch.zeros(2, 8, 6, 6)), {"activation": "tanh"}, "activation"),
    ],
)
def test_bad_input(change: Callable[[list[Any]], None], options: dict[str, Any], text: str) -> None:
    tensors, _ = make((2, 6, 6, 8, 12, 8, 3, 1, True, False))
    change(tensors)
    with pytest.raises((ValueError, RuntimeError), match=text):
        inverted_bottleneck_norm(tensors[0], *layers(tensors), **options)


def test_one_running_statistic_alone() -> None:
    tensors, options = make((2, 6, 6, 8, 12, 8, 3, 1, True, False))
    each = layers(tensors)
    each[1] = each[1] and each[1]._replace(running_mean=torch.zeros(12))
    with pytest.raises(ValueError, match="both or not at all"):
        inverted_bottleneck_norm(tensors[0], *each, **options)


def test_what_is_not_a_number_stays_in_its_channel() -> None:
    """Behind the depthwise convolution; the projection mixes channels."""
    tensors, options = make((2, 6, 7, 8, 8, 8, 3, 1, False, False))
    tensors[0][0, 3, 2, 2] = float("nan")
    flat = [
        tensors[0],
        None,
        None,
        tensors[1],
        tensors[2],
        tensors[5],
        tensors[6],
        None,
        None,
        *tensors[3:5],
        *tensors[7:],
    ]
    y, _, z, *_ = library.inverted_bottleneck_norm(*flat, 1, "silu", False, options["eps"])
    assert z.isnan().any(3).any(2).any(0).tolist() == [c == 3 for c in range(8)]
    assert y.isnan().all()
    *gradients, _, _, _, _, _, _ = results(inverted_bottleneck_norm, *tensors, **options)
    weight = gradients[2]
    assert weight.isnan().all(), "the gradient of the projection reaches every channel"


def displaced(t: Tensor) -> Tensor:
    """The same, one value behind an address that suits vectors."""
    if t.dim() < 4:
        return torch.cat([t[:1], t])[1:]
    n, c, h, w = t.shape
    return torch.cat([t.new_zeros(1), t.permute(0, 2, 3, 1).flatten()])[1:].view(n, h, w, c).permute(0, 3, 1, 2)


@pytest.mark.parametrize("expand", [True, False])
def test_tensors_at_any_address(expand: bool) -> None:
    tensors, options = make((2, 9, 8, 8, 16 if expand else 8, 8, 3, 1, expand, True))
    expected, found = [], []
    for moved, to in ((tensors, expected), ([displaced(t) for t in tensors], found)):
        leaves = [t.detach().requires_grad_() for t in moved]
        y = inverted_bottleneck_norm(leaves[0], *layers(leaves), **options)
        upstream = channels_last(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
        to += [y, *torch.autograd.grad(y, leaves, displaced(upstream) if to is found else upstream)]
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.detach().abs().max()))


def test_weights_that_are_not_contiguous() -> None:
    tensors, options = make((2, 9, 9, 6, 12, 6, 3, 1, True, True))
    turned = [t.flip(0).flip(0) if t.dim() < 4 else t.transpose(0, 1).contiguous().transpose(0, 1) for t in tensors[1:]]
    expected = results(inverted_bottleneck_norm, *tensors, **options)
    found = results(inverted_bottleneck_norm, tensors[0], *turned, **options)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))

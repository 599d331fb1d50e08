"""Maps in channels_last memory and back: the fast copy of the CPU, and torch's where it does not serve."""

from __future__ import annotations

import pytest
import torch

from leyolo.ops._library import library
from leyolo.ops._memory_format import like_input, nhwc

SHAPES = [
    (2, 3, 5, 7),
    (1, 96, 40, 40),
    (3, 17, 1, 130),
    (2, 65, 9, 8),
    (1, 1, 6, 6),
    (4, 8, 1, 1),
    (0, 3, 4, 4),
    (2, 5, 0, 4),
    (2, 130, 17, 200),
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_operator_moves_every_value(shape: tuple[int, ...], threads: int) -> None:
    x = torch.randn(shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        last = library.memory_format(x, True)
        back = library.memory_format(last, False)
    finally:
        torch.set_num_threads(before)
    assert last.is_contiguous(memory_format=torch.channels_last) or not x.numel()
    assert back.is_contiguous()
    assert torch.equal(last, x)
    assert torch.equal(back, x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_values_stay_and_memory_changes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape).to(dtype)
    last = nhwc(x)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, x, rtol=0, atol=0)
    back = like_input(last, x)
    assert back.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(back, x, rtol=0, atol=0)


def test_what_fits_is_not_copied() -> None:
    x = torch.randn(2, 3, 5, 7)
    last = x.contiguous(memory_format=torch.channels_last)
    assert nhwc(last) is last
    assert like_input(last, last) is last
    assert like_input(x, x) is x


def test_a_view_with_gaps_is_read_right() -> None:
    x = torch.randn(2, 6, 5, 9)[:, ::2, :, 1:]
    torch.testing.assert_close(nhwc(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("channels_last", [True, False])
def test_operator_contract(channels_last: bool) -> None:
    x = torch.randn(2, 5, 3, 4).contiguous(
        memory_format=torch.contiguous_format if channels_last else torch.channels_last
    )
    torch.library.opcheck(library.memory_format, (x.requires_grad_(), channels_last))


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 16, 40, 40)], ids=str)
def test_gradient_passes_through(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    weight = torch.randn(shape)
    (nhwc(x) * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight, rtol=0, atol=0)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be float32 \[N, C, H, W\]"):
        library.memory_format(torch.randn(3, 4), True)
    with pytest.raises(ValueError, match=r"must be float32 \[N, C, H, W\], got f"):
        library.memory_format(torch.randn(1, 2, 3, 4).double(), True)
    with pytest.raises(ValueError, match="must be contiguous"):
        library.memory_format(torch.randn(1, 4, 3, 6)[..., ::2], True)

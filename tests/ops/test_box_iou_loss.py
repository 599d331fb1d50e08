from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss
from leyolo.ops.box_iou_loss import box_iou_loss_reference

KINDS: dict[str, Callable[..., torch.Tensor]] = {
    "generalized": generalized_box_iou_loss,
    "distance": distance_box_iou_loss,
    "complete": complete_box_iou_loss,
}
SIZES = [0, 1, 5, 16, 33, 256, 257, 5000]


def make(n: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs, of which most overlap."""
    low = torch.rand(n, 2) * 60
    boxes = torch.cat([low, low + 2 + torch.rand(n, 2) * 40], -1)
    moved = boxes + torch.randn(n, 4) * 6
    moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
    return boxes.to(dtype), moved.to(dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind: str, n: int, dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    boxes = make(n, dtype)
    loss = KINDS[kind](*boxes)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if dtype == torch.float64:  # torch has nothing more exact to compare with
        torch.testing.assert_close(loss, box_iou_loss_reference(*boxes, kind), rtol=1e-13, atol=1e-14)
    else:
        as_good_as_torch(loss, box_iou_loss_reference, *boxes, kind)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("n", [0, 1, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_reductions(kind: str, n: int, reduction: str) -> None:
    boxes = make(n)
    torch.testing.assert_close(
        KINDS[kind](*boxes, reduction=reduction), box_iou_loss_reference(*boxes, kind, reduction), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_eps(kind: str, as_good_as_torch: Callable[..., None]) -> None:
    boxes = tuple(b / 100 for b in make(50))
    as_good_as_torch(KINDS[kind](*boxes, eps=0.3), box_iou_loss_reference, *boxes, kind, eps=0.3)


def test_known_values() -> None:
    one, other = torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 1, 3, 3])
    assert generalized_box_iou_loss(one, other).item() == pytest.approx(1 - (1 / 7 - 2 / 9))
    assert distance_box_iou_loss(one, other).item() == pytest.approx(1 - (1 / 7 - 2 / 18))
    assert complete_box_iou_loss(one[None], one[None]).tolist() == [0.0]


@pytest.mark.parametrize("kind", ["generalized", "distance"])
def test_empty_boxes_are_finite(kind: str) -> None:
    boxes = torch.zeros(3, 4, requires_grad=True)
    loss = KINDS[kind](boxes, torch.zeros(3, 4))
    assert torch.equal(loss, box_iou_loss_reference(boxes, torch.zeros(3, 4), kind))
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), boxes)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_numpy_gives_the_same_bits(kind: str, dtype: type) -> None:
    boxes = [b.numpy().astype(dtype) for b in make(300)]
    function = getattr(C, f"{kind}_box_iou_loss")
    expected = KINDS[kind](*map(torch.from_numpy, boxes))
    assert np.array_equal(function(*boxes), expected.numpy())
    assert function(*boxes, reduction="sum") == pytest.approx(expected.sum().item(), rel=1e-5)
    assert function(*boxes, "mean", 1e-7) == pytest.approx(expected.mean().item(), rel=1e-5)
    assert function(boxes[0][:0], boxes[1][:0], "mean") == 0


def gradients(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in tensors[:2]]
    return torch.autograd.grad(function(*leaves), leaves, tensors[2])


@pytest.mark.parametrize("kind", ["generalized", "distance"])
def test_gradcheck(kind: str) -> None:
    boxes = [b.requires_grad_() for b in make(20, torch.float64)]
    for reduction in ("none", "mean"):
        assert torch.autograd.gradcheck(lambda *b, r=reduction: KINDS[kind](*b, reduction=r), boxes)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str, n: int, dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    boxes = make(n, dtype)
    upstream = torch.randn(n).to(torch.float64 if dtype == torch.float64 else torch.float32)
    ours = gradients(KINDS[kind], *boxes, upstream)

    def reference(*tensors: torch.Tensor, i: int) -> torch.Tensor:
        return gradients(lambda a, b: box_iou_loss_reference(a, b, kind), *tensors)[i]

    for i in (0, 1):
        if dtype == torch.float64:
            torch.testing.assert_close(ours[i], reference(*boxes, upstream, i=i), rtol=1e-11, atol=1e-13)
        else:
            as_good_as_torch(ours[i], reference, *boxes, upstream, i=i)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_where_torch_has_to_choose(kind: str, dtype: torch.dtype) -> None:
    """Equal edges share their gradient; boxes that just touch, in one direction or both, have no intersection."""
    one = torch.tensor([[0, 0, 4, 4]] * 6, dtype=dtype)
    other = torch.tensor(
        [[0, 0, 4, 4], [4, 0, 8, 4], [4, 4, 6, 7], [0, 1, 4, 2], [0, 5, 4, 9], [1, 4, 3, 6]], dtype=dtype
    )
    upstream = torch.randn(6, dtype=dtype)
    ours = gradients(KINDS[kind], one, other, upstream)
    expected = gradients(lambda a, b: box_iou_loss_reference(a, b, kind), one, other, upstream)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_gradients_only_where_wanted() -> None:
    predicted, target = make(9)
    predicted.requires_grad_()
    complete_box_iou_loss(predicted, target, reduction="sum").backward()
    assert predicted.grad is not None
    assert target.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_registration(kind: str) -> None:
    boxes = [b.requires_grad_() for b in make(20)]
    opcheck(torch.ops.leyolo.box_iou_loss, *boxes, kind, 1e-7)
    compiled_equals_eager(KINDS[kind], *boxes)
    torch._dynamo.reset()
    compiled = torch.compile(KINDS[kind], fullgraph=True, backend="aot_eager")
    ours, expected = (torch.autograd.grad(f(*boxes, "sum"), boxes) for f in (compiled, KINDS[kind]))
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((torch.zeros(3, 5), torch.zeros(3, 5)), r"must be \[N, 4\], got \[3, 5\]"),
        ((torch.zeros(3, 4), torch.zeros(2, 4)), r"must be \[N, 4\], got \[3, 4\] and \[2, 4\]"),
        ((torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.float64)), "must share dtype"),
        ((torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.int64)), "expected float32"),
        ((torch.zeros(3, 4), torch.zeros(3, 4), "max"), "reduction must be none, mean or sum, got 'max'"),
    ],
)
def test_rejects(arguments: Any, text: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=text):
        generalized_box_iou_loss(*arguments)


def test_operator_rejects() -> None:
    boxes = torch.zeros(3, 4)
    with pytest.raises((ValueError, RuntimeError), match="kind must be generalized, distance or complete"):
        torch.ops.leyolo.box_iou_loss(boxes, boxes, "iou", 1e-7)
    with pytest.raises(ValueError, match="reduction must be none, mean or sum, got 'max'"):
        C.distance_box_iou_loss(boxes.numpy(), boxes.numpy(), "max")

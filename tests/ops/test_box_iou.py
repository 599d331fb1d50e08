from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import box_convert, box_iou, complete_box_iou, distance_box_iou, generalized_box_iou
from leyolo.ops.box_iou import box_iou_reference

KINDS: dict[str, Callable[..., torch.Tensor]] = {
    "iou": box_iou,
    "generalized": generalized_box_iou,
    "distance": distance_box_iou,
    "complete": complete_box_iou,
}
FORMATS = ["xyxy", "xywh", "cxcywh"]
# leading sizes, N, M: nothing, one, tails of every vector length, several pieces of rows and of columns.
SHAPES = [
    ((), 0, 3),
    ((), 3, 0),
    ((0,), 2, 2),
    ((), 1, 1),
    ((2,), 3, 17),
    ((2, 3), 5, 31),
    ((), 65, 257),
    ((3,), 130, 63),
    ((), 7, 1000),
]


def make(*shape: int, dtype: torch.dtype = torch.float32, fmt: str = "xyxy") -> torch.Tensor:
    low = torch.rand(*shape, 2) * 60
    return box_convert(torch.cat([low, low + 1 + torch.rand(*shape, 2) * 40], -1), "xyxy", fmt).to(dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind: str, shape: Any, dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    lead, n, m = shape
    boxes1, boxes2 = make(*lead, n, dtype=dtype), make(*lead, m, dtype=dtype)
    out = KINDS[kind](boxes1, boxes2)
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if dtype == torch.float64:  # torch has nothing more exact to compare with
        torch.testing.assert_close(out, box_iou_reference(boxes1, boxes2, kind), rtol=1e-13, atol=1e-14)
    else:
        as_good_as_torch(out, box_iou_reference, boxes1, boxes2, kind)
    if kind != "complete":  # the arctangent alone may differ
        assert torch.equal(out, box_iou_reference(boxes1, boxes2, kind))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
def test_formats(fmt: str, dtype: torch.dtype) -> None:
    boxes1, boxes2 = make(2, 40, dtype=dtype, fmt=fmt), make(2, 77, dtype=dtype, fmt=fmt)
    assert torch.equal(box_iou(boxes1, boxes2, fmt), box_iou_reference(boxes1, boxes2, fmt=fmt))
    assert torch.equal(box_iou(boxes1, boxes2, fmt=fmt), box_iou(boxes1, boxes2, fmt))


@pytest.mark.parametrize("eps", [1e-7, 0.5])
def test_eps(eps: float, as_good_as_torch: Callable[..., None]) -> None:
    boxes1, boxes2 = make(20) / 50, make(30) / 50
    for kind in ("distance", "complete"):
        as_good_as_torch(KINDS[kind](boxes1, boxes2, eps=eps), box_iou_reference, boxes1, boxes2, kind, eps=eps)


def test_known_values() -> None:
    boxes1 = torch.tensor([[0.0, 0, 2, 2]])
    boxes2 = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [4, 0, 6, 2], [2, 0, 4, 2]])
    assert box_iou(boxes1, boxes2).tolist() == [[pytest.approx(1 / 7), 1.0, 0.0, 0.0]]
    assert generalized_box_iou(boxes1, boxes2).tolist() == [
        [pytest.approx(1 / 7 - 2 / 9), 1.0, pytest.approx(-1 / 3), 0]
    ]
    assert distance_box_iou(boxes1, boxes2).tolist() == [
        [pytest.approx(1 / 7 - 2 / 18), 1.0, pytest.approx(-16 / 40), pytest.approx(-4 / 20)]
    ]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_box_and_itself_have_exactly_one(scale: float) -> None:
    boxes = make(500) * scale
    assert (box_iou(boxes, boxes).diagonal() == 1).all()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_infinity_empty_and_inverted_boxes(kind: str, fmt: str) -> None:
    boxes = make(40, fmt=fmt)
    boxes[3, 0] = boxes[5, 1] = boxes[7, 2] = boxes[9, 3] = torch.nan
    boxes[11, 2] = boxes[13, 3] = torch.inf
    boxes[15], boxes[16] = 0, 0
    boxes[17] = torch.tensor([30.0, 30, 10, 10])
    ours = torch.ops.leyolo.box_iou(boxes[None], boxes[None], kind, fmt, 1e-7)[0]
    torch.testing.assert_close(ours, box_iou_reference(boxes, boxes, kind, fmt), rtol=1e-5, atol=1e-6, equal_nan=True)
    assert ours[15, 16].isnan()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-3, 9)] * 4), min_size=1, max_size=40))
def test_small_integers(rows: list[tuple[int, ...]]) -> None:
    """Touching, equal, empty and inverted boxes."""
    boxes = torch.tensor(rows, dtype=torch.float32)
    for kind in ("iou", "generalized", "distance"):
        torch.testing.assert_close(
            KINDS[kind](boxes, boxes), box_iou_reference(boxes, boxes, kind), rtol=0, atol=0, equal_nan=True
        )


def test_strided_boxes() -> None:
    wide = torch.rand(30, 8)
    boxes = wide[::2, 1:5]
    assert torch.equal(box_iou(boxes, boxes), box_iou(boxes.contiguous(), boxes.contiguous()))


def test_goldens(shared: Path) -> None:
    """Pairs measured with Ultralytics 8.1.4 (which adds its eps in other places) and YOLOX."""
    golden = {k: torch.from_numpy(v) for k, v in np.load(shared / "golden" / "assign" / "iou_variants.npz").items()}
    pairs = golden["a_xyxy"][:, None], golden["b_xyxy"][:, None]
    for kind, name in zip(KINDS, ("iou", "giou", "diou", "ciou"), strict=True):
        torch.testing.assert_close(KINDS[kind](*pairs)[:, 0, 0], golden[f"ultra_{name}"], rtol=0, atol=1e-4)
    centred = golden["a_cxcywh"][:, None], golden["b_cxcywh"][:, None]
    iou = box_iou(*centred, fmt="cxcywh")[:, 0, 0]
    torch.testing.assert_close(iou, golden["yolox_pair_iou"], rtol=0, atol=1e-5)
    torch.testing.assert_close(1 - iou**2, golden["yolox_loss_iou"], rtol=0, atol=1e-5)
    generalized = generalized_box_iou(*(box_convert(b, "cxcywh", "xyxy") for b in centred))[:, 0, 0]
    torch.testing.assert_close(1 - generalized.clamp(-1, 1), golden["yolox_loss_giou"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_numpy_gives_the_same_bits(lead: tuple[int, ...], dtype: type) -> None:
    boxes1, boxes2 = (make(*lead, n).numpy().astype(dtype) for n in (70, 300))
    one, two = torch.from_numpy(boxes1), torch.from_numpy(boxes2)
    for fmt in FORMATS:
        assert np.array_equal(C.box_iou(boxes1, boxes2, fmt), box_iou(one, two, fmt).numpy(), equal_nan=True)
    assert np.array_equal(C.generalized_box_iou(boxes1, boxes2), generalized_box_iou(one, two).numpy())
    assert np.array_equal(C.distance_box_iou(boxes1, boxes2, 0.1), distance_box_iou(one, two, 0.1).numpy())
    assert np.array_equal(C.complete_box_iou(boxes1, boxes2, eps=0.1), complete_box_iou(one, two, 0.1).numpy())


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("kind", ["iou", "generalized", "distance"])
def test_gradcheck(kind: str, fmt: str) -> None:
    """(alpha of the complete variant carries no gradient, so that numerical differences do not apply to it.)"""
    boxes = make(2, 5, dtype=torch.float64, fmt=fmt), make(2, 7, dtype=torch.float64, fmt=fmt)
    assert torch.autograd.gradcheck(
        lambda *b: torch.ops.leyolo.box_iou(*b, kind, fmt, 1e-7), [b.requires_grad_() for b in boxes]
    )


def gradients(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in tensors[:2]]
    return torch.autograd.grad(function(*leaves), leaves, tensors[2])


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str, shape: Any, dtype: torch.dtype, as_good_as_torch: Callable[..., None]) -> None:
    lead, n, m = shape
    boxes = make(*lead, n, dtype=dtype), make(*lead, m, dtype=dtype)
    upstream = torch.randn(*lead, n, m).to(torch.float64 if dtype == torch.float64 else torch.float32)
    ours = gradients(KINDS[kind], *boxes, upstream)

    def reference(*tensors: torch.Tensor, i: int) -> torch.Tensor:
        return gradients(lambda a, b: box_iou_reference(a, b, kind), *tensors)[i]

    for i in (0, 1):
        if dtype == torch.float64:
            torch.testing.assert_close(ours[i], reference(*boxes, upstream, i=i), rtol=1e-11, atol=1e-13)
        else:  # sums of many terms in another order than torch's
            as_good_as_torch(ours[i], reference, *boxes, upstream, i=i, factor=3)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_where_torch_has_to_choose(kind: str, dtype: torch.dtype, fmt: str) -> None:
    """Equal edges share their gradient; boxes that just touch keep theirs."""
    corners = [[0, 0, 4, 4], [0, 0, 4, 4], [4, 0, 8, 4], [0, 4, 4, 6], [1, 1, 3, 3], [0, 1, 4, 2], [9, 9, 12, 10]]
    boxes = box_convert(torch.tensor(corners, dtype=dtype), "xyxy", fmt)
    upstream = torch.randn(len(boxes), len(boxes), dtype=dtype)
    ours = gradients(
        lambda a, b: torch.ops.leyolo.box_iou(a[None], b[None], kind, fmt, 1e-7)[0], boxes, boxes, upstream
    )
    expected = gradients(lambda a, b: box_iou_reference(a, b, kind, fmt), boxes, boxes, upstream)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gradients_only_where_wanted() -> None:
    boxes1, boxes2 = make(5), make(6)
    boxes2.requires_grad_()
    box_iou(boxes1, boxes2).sum().backward()
    assert boxes2.grad is not None
    assert boxes1.grad is None


def test_any_number_of_threads_gives_the_same_bits() -> None:
    leaves = [make(n).requires_grad_() for n in (300, 700)]
    upstream = torch.randn(300, 700)
    results = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            out = complete_box_iou(*leaves)
            results.append([out, *torch.autograd.grad(out, leaves, upstream)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_registration(kind: str) -> None:
    boxes = make(2, 5).requires_grad_(), make(2, 9).requires_grad_()
    opcheck(torch.ops.leyolo.box_iou, *boxes, kind, "xyxy", 1e-7)
    compiled_equals_eager(KINDS[kind], *boxes)


def test_compiled_backward() -> None:
    boxes = make(5).requires_grad_(), make(9).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(complete_box_iou, fullgraph=True, backend="aot_eager")
    ours, expected = (torch.autograd.grad(f(*boxes).sum(), boxes) for f in (compiled, complete_box_iou))
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((torch.zeros(3, 5), torch.zeros(3, 4)), r"boxes1 must be \[\.\.\., N, 4\], got \[3, 5\]"),
        ((torch.zeros(3, 4), torch.zeros(4)), r"boxes2 must be \[\.\.\., N, 4\], got \[4\]"),
        ((torch.zeros(2, 3, 4), torch.zeros(3, 2, 4)), "same leading sizes"),
        ((torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.float64)), "must share dtype"),
        ((torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.int64)), "expected float32"),
        ((torch.zeros(3, 4), torch.zeros(3, 4), "yxyx"), "fmt must be xyxy, xywh or cxcywh, got 'yxyx'"),
    ],
)
def test_rejects(arguments: Any, text: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=text):
        box_iou(*arguments)


def test_operator_rejects() -> None:
    boxes = torch.zeros(1, 3, 4)
    with pytest.raises(
        (ValueError, RuntimeError), match="kind must be iou, generalized, distance or complete, got 'x'"
    ):
        torch.ops.leyolo.box_iou(boxes, boxes, "x", "xyxy", 1e-7)
    with pytest.raises((ValueError, RuntimeError), match="gradient must be as the output"):
        torch.ops.leyolo.box_iou_backward(torch.zeros(1, 3, 2), boxes, boxes, "iou", "xyxy", 1e-7, True, True)


def test_numpy_rejects() -> None:
    boxes = np.zeros((6, 4), np.float32)
    with pytest.raises(ValueError, match="C-contiguous"):
        C.box_iou(boxes[::2], boxes)
    with pytest.raises(ValueError, match="boxes must be"):
        C.box_iou(boxes, boxes[None])
    with pytest.raises(ValueError, match="must share dtype"):
        C.complete_box_iou(boxes, boxes.astype(np.float64))

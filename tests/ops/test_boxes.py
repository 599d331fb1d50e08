from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager
from leyolo.ops import box_area, box_convert, clip_boxes_to_image, remove_small_boxes

FORMATS = ["xyxy", "xywh", "cxcywh"]
SAME = {"xyxy": [1.0, 2, 7, 12], "xywh": [1.0, 2, 6, 10], "cxcywh": [4.0, 7, 6, 10]}  # one box


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FORMATS, FORMATS)))
def test_convert(source: str, target: str) -> None:
    boxes = torch.tensor(SAME[source]).expand(2, 3, 4)
    for dtype in (*FLOATS, torch.float64):
        out = box_convert(boxes.to(dtype), source, target)
        assert out.dtype == dtype
        assert torch.equal(out, torch.tensor(SAME[target], dtype=dtype).expand(2, 3, 4))
    assert box_convert(torch.zeros(0, 4), source, target).shape == (0, 4)
    leaf = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: box_convert(b, source, target), leaf)


def test_convert_is_a_copy() -> None:
    boxes = torch.rand(3, 4)
    out = box_convert(boxes, "xyxy", "xyxy")
    assert out.data_ptr() != boxes.data_ptr()


def test_convert_of_integers_stays_integer() -> None:
    out = box_convert(torch.tensor([[1, 2, 4, 8]]), "xyxy", "cxcywh")
    assert out.dtype == torch.int64
    assert out.tolist() == [[2, 5, 3, 6]]


@pytest.mark.parametrize("fmt", FORMATS)
def test_area(fmt: str) -> None:
    boxes = torch.tensor(SAME[fmt]).expand(2, 3, 4)
    assert torch.equal(box_area(boxes, fmt), torch.full((2, 3), 60.0))
    assert torch.autograd.gradcheck(
        lambda b: box_area(b, fmt), torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    )
    compiled_equals_eager(box_area, boxes, fmt)


def test_area_does_not_overflow() -> None:
    assert box_area(torch.tensor([[0, 0, 1000, 1000]], dtype=torch.float16)).tolist() == [1e6]
    assert box_area(torch.tensor([[0, 0, 200, 200]], dtype=torch.uint8)).tolist() == [40000]


def test_clip() -> None:
    boxes = torch.tensor([[-5.0, -1, 700, 300], [10, 20, 30, 40]])
    assert clip_boxes_to_image(boxes, (480, 640)).tolist() == [[0, 0, 640, 300], [10, 20, 30, 40]]
    compiled_equals_eager(clip_boxes_to_image, boxes, (480, 640))


def test_remove_small() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [0, 0, 3, 9], [1, 1, 9, 9]])
    assert remove_small_boxes(boxes, 4.0).tolist() == [0, 3]
    assert remove_small_boxes(boxes[:0], 4.0).tolist() == []


def test_rejects() -> None:
    with pytest.raises(ValueError, match=r"box_area: boxes must be \[\.\.\., 4\], got \[3, 5\]"):
        box_area(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="box_area: fmt must be xyxy, xywh or cxcywh, got 'x'"):
        box_area(torch.zeros(3, 4), "x")
    with pytest.raises(ValueError, match="box_convert: out_fmt must be xyxy, xywh or cxcywh, got 'xyhw'"):
        box_convert(torch.zeros(3, 4), "xyxy", "xyhw")
    with pytest.raises(ValueError, match="clip_boxes_to_image: boxes must be"):
        clip_boxes_to_image(torch.zeros(3), (4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 4), (4,), (3, 5, 4)])
def test_numpy_gives_the_same_bits(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    boxes = torch.rand(shape, dtype=dtype) * 100
    for fmt in ("xyxy", "xywh", "cxcywh"):
        assert np.array_equal(C.box_area(boxes.numpy(), fmt), box_area(boxes, fmt).numpy())
        for target in ("xyxy", "xywh", "cxcywh"):
            ours = C.box_convert(boxes.numpy(), fmt, target)
            assert np.array_equal(ours, box_convert(boxes, fmt, target).numpy())


def test_numpy_rejects() -> None:
    with pytest.raises(ValueError, match=r"box_area: boxes must be \[..., 4\]"):
        C.box_area(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="fmt must be xyxy, xywh or cxcywh, got 'yxyx'"):
        C.box_convert(np.zeros((2, 4), np.float32), "xyxy", "yxyx")

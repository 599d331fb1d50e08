from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import batched_nms, nms, nms_padded
from leyolo.ops.nms import nms_reference


def clusters(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes in groups of about 20 that overlap; scores with many ties."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.rand(max(1, n // 20), 2, generator=g) * 600
    at = centres[torch.randint(len(centres), (n,), generator=g)] + torch.randn(n, 2, generator=g) * 8
    half = 10 + torch.rand(n, 2, generator=g) * 30
    scores = torch.randint(0, 200, (n,), generator=g) / 200
    return torch.cat([at - half, at + half], 1).to(dtype), scores.to(dtype)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 300, 1000])
def test_values(n: int, threshold: float) -> None:
    boxes, scores = clusters(n)
    assert torch.equal(nms(boxes, scores, threshold), nms_reference(boxes, scores, threshold))


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    boxes, scores = clusters(400, 1, dtype)
    assert torch.equal(nms(boxes, scores, 0.5), nms_reference(boxes, scores, 0.5))


@pytest.mark.parametrize("labels", [1, 2, 7, 400])
def test_classes_are_apart(labels: int) -> None:
    boxes, scores = clusters(400, 2)
    idxs = torch.arange(400) % labels * 10**12 - 5  # any int64
    kept = batched_nms(boxes, scores, idxs, 0.5)
    assert torch.equal(kept, nms_reference(boxes, scores, 0.5, idxs))
    if labels == 400:
        assert len(kept) == 400


def test_twenty_thousand_boxes() -> None:
    boxes, scores = clusters(20_000, 3)
    assert torch.equal(nms(boxes, scores, 0.1), nms_reference(boxes, scores, 0.1))


def test_ties_keep_the_lower_index() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(40, 1)
    assert nms(boxes, torch.full((40,), 0.5), 0.5).tolist() == [0]
    assert nms(boxes, torch.full((40,), 0.5), 1.0).tolist() == list(range(40))


def test_iou_exactly_at_the_threshold_does_not_suppress() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 2, 2]])  # IoU 1/2, 1/4; 1/2 between the last two
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1, 2]
    assert nms(boxes, scores, float(np.nextafter(0.5, 0))).tolist() == [0, 2]
    assert nms(boxes, scores, 0.25).tolist() == [0, 2]


def test_the_threshold_is_a_double() -> None:
    """float32(0.6) is above the double 0.6: a box with that very IoU is dropped at 0.6, as torchvision does."""
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6]]), torch.tensor([0.9, 0.8])
    assert float(np.float32(60) / np.float32(100)) > 0.6
    assert nms(boxes, scores, 0.6).tolist() == [0]
    assert nms(boxes, scores, float(np.float32(0.6))).tolist() == [0, 1]


def test_nan_and_infinity() -> None:
    boxes, scores = clusters(64, 4)
    boxes[5, 0] = boxes[9, 3] = torch.nan
    boxes[11] = torch.tensor([0, 0, torch.inf, torch.inf])
    boxes[12] = 0
    boxes[13] = torch.tensor([30.0, 30, 10, 10])  # inside out
    scores[7] = scores[20] = torch.nan
    scores[8] = torch.inf
    kept = nms(boxes, scores, 0.4)
    assert torch.equal(kept, nms_reference(boxes, scores, 0.4))
    assert kept[:2].tolist() == [7, 20]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 4), st.integers(0, 2)), max_size=60),
    st.sampled_from([-0.5, 0.0, 0.2, 0.25, 0.5, 0.75, 1.0]),
)
def test_any_boxes(rows: list[tuple[int, ...]], threshold: float) -> None:
    """Small integers: ties, touching, empty and inverted boxes, thresholds that are met exactly."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    boxes, scores, idxs = table[:, :4].contiguous(), table[:, 4] / 4, table[:, 5].long()
    assert torch.equal(nms(boxes, scores, threshold), nms_reference(boxes, scores, threshold))
    assert torch.equal(batched_nms(boxes, scores, idxs, threshold), nms_reference(boxes, scores, threshold, idxs))


@pytest.mark.parametrize("max_det", [0, 1, 37, 1000])
def test_padded_is_each_image_by_itself(max_det: int) -> None:
    images = [clusters(n, n) for n in (0, 10, 150, 300)]
    boxes, scores, labels = (
        torch.full((4, 300, 4), torch.nan),
        torch.full((4, 300), 2.0),
        torch.zeros(4, 300, dtype=torch.int64),
    )
    for i, (b, s) in enumerate(images):
        boxes[i, : len(b)], scores[i, : len(b)], labels[i, : len(b)] = b, s, torch.arange(len(b)) % 3
    counts = torch.tensor([len(b) for b, _ in images])
    indices, kept = nms_padded(
        boxes, scores, labels, iou_threshold=0.5, max_det=max_det, score_threshold=0.25, counts=counts
    )  # fmt: skip
    for i, (b, s) in enumerate(images):
        passed = torch.nonzero(s > 0.25).flatten()
        expected = passed[nms_reference(b[passed], s[passed], 0.5, labels[i, passed])][:max_det]
        assert kept[i] == len(expected)
        assert torch.equal(indices[i, : kept[i]], expected)
        assert (indices[i, kept[i] :] == -1).all()


def test_score_threshold_is_strict() -> None:
    boxes = torch.arange(12.0).reshape(1, 3, 4) * 100
    scores = torch.tensor([[0.25, 0.5, torch.nan]])
    assert nms_padded(boxes, scores, iou_threshold=0.5, max_det=3, score_threshold=0.25)[1].tolist() == [1]
    assert nms_padded(boxes, scores, iou_threshold=0.5, max_det=3)[1].tolist() == [3]


def test_numpy_gives_the_same() -> None:
    boxes, scores = clusters(500, 5)
    idxs = torch.arange(500) % 4
    b, s, i = boxes.numpy(), scores.numpy(), idxs.numpy()
    assert np.array_equal(C.nms(b, s, 0.5), nms(boxes, scores, 0.5).numpy())
    assert np.array_equal(C.batched_nms(b, s, i, 0.5), batched_nms(boxes, scores, idxs, 0.5).numpy())
    ours = C.nms_padded(b[None], s[None], i[None], iou_threshold=0.5, max_det=50, score_threshold=0.1)
    expected = nms_padded(boxes[None], scores[None], idxs[None], iou_threshold=0.5, max_det=50, score_threshold=0.1)
    assert all(np.array_equal(a, e.numpy()) for a, e in zip(ours, expected, strict=True))


def test_registration() -> None:
    boxes, scores = clusters(50, 6)
    labels = torch.arange(50) % 3
    opcheck(torch.ops.leyolo.nms, boxes, scores, labels, 0.5)
    padded = (boxes[None].repeat(2, 1, 1), scores[None].repeat(2, 1), labels[None].repeat(2, 1))
    opcheck(torch.ops.leyolo.nms_padded, *padded, 0.5, 20, 0.1, torch.tensor([50, 7]))
    compiled_equals_eager(nms_padded, *padded, iou_threshold=0.5, max_det=20)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((torch.zeros(3, 5), torch.zeros(3), 0.5), r"boxes must be \[B, N, 4\]"),
        ((torch.zeros(3, 4), torch.zeros(2), 0.5), r"scores must be \[1, 3\]"),
        ((torch.zeros(3, 4), torch.zeros(3, 1), 0.5), r"boxes must be \[N, 4\]"),
        ((torch.zeros(3, 4), torch.zeros(3, dtype=torch.float64), 0.5), "must share dtype"),
        ((torch.zeros(3, 4, dtype=torch.int32), torch.zeros(3, dtype=torch.int32), 0.5), "expected float32"),
        ((torch.zeros(3, 4), torch.zeros(3), float("nan")), "iou_threshold must be a number"),
    ],
)
def test_rejects(arguments: Any, text: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=text):
        nms(*arguments)


def test_padded_rejects() -> None:
    boxes, scores = torch.zeros(2, 3, 4), torch.zeros(2, 3)
    with pytest.raises((ValueError, RuntimeError), match=r"labels must be int64 \[2, 3\]"):
        nms_padded(boxes, scores, torch.zeros(2, 4), iou_threshold=0.5, max_det=3)
    with pytest.raises((ValueError, RuntimeError), match="max_det must not be negative"):
        nms_padded(boxes, scores, iou_threshold=0.5, max_det=-1)
    with pytest.raises((ValueError, RuntimeError), match=r"counts must be int64 \[2\]"):
        nms_padded(boxes, scores, iou_threshold=0.5, max_det=1, counts=torch.zeros(3, dtype=torch.int64))

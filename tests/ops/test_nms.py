from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import batched_nms, nms, nms_padded
from leyolo.ops.nms import nms_padded_reference, nms_reference

# none, one, below and above every vector length, with tails
SIZES = [0, 1, 2, 3, 5, 8, 15, 16, 17, 33, 100, 257]
INF, NAN = math.inf, math.nan


def random_boxes(*shape: int, size: float = 60, field: float = 200, dtype: torch.dtype = torch.float32) -> Tensor:
    corner = torch.rand(*shape, 2, dtype=torch.float64) * field
    return torch.cat([corner, corner + torch.rand(*shape, 2, dtype=torch.float64) * size + 1], -1).to(dtype)


def plain_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, labels: np.ndarray | None = None) -> np.ndarray:
    """Greedy NMS as one reads it, a row of IoUs at a time: for sizes at which the N x N reference is too large."""
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)
    area = (x2 - x1) * (y2 - y1)
    alive, kept = np.ones(len(order), bool), []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(order[i])
        w = np.maximum(np.minimum(x2[i], x2[i:]) - np.maximum(x1[i], x1[i:]), 0)
        h = np.maximum(np.minimum(y2[i], y2[i:]) - np.maximum(y1[i], y1[i:]), 0)
        above = (w * h / (area[i] + area[i:] - w * h)).astype(np.float64) > threshold
        if labels is not None:
            above &= labels[order[i]] == labels[order[i:]]
        alive[i:] &= ~above
    return np.array(kept, np.int64)


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.5, 0.7, 1.0, NAN, INF])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
def test_values(dtype: torch.dtype, threshold: float) -> None:
    for n in SIZES:
        boxes, scores = random_boxes(n, dtype=dtype), torch.rand(n).to(dtype)
        labels = torch.randint(-2, 3, (n,)) * 2**40
        assert torch.equal(nms(boxes, scores, threshold), nms_reference(boxes, scores, threshold))
        assert torch.equal(
            batched_nms(boxes, scores, labels, threshold), nms_reference(boxes, scores, threshold, labels)
        )


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("threshold", [0.45, 0.7])
def test_twenty_thousand_boxes(threshold: float, labelled: bool) -> None:
    boxes, scores = random_boxes(20_000, size=80, field=900), torch.rand(20_000)
    labels = torch.randint(0, 80, (20_000,))
    ours = batched_nms(boxes, scores, labels, threshold) if labelled else nms(boxes, scores, threshold)
    expected = plain_nms(boxes.numpy(), scores.numpy(), threshold, labels.numpy() if labelled else None)
    assert np.array_equal(ours.numpy(), expected)
    assert 100 < len(ours) < 20_000


def test_ties_go_to_the_lower_index() -> None:
    boxes = torch.tensor([[0, 0, 10, 10]], dtype=torch.float32).repeat(40, 1)
    assert nms(boxes, torch.full((40,), 0.5), 0.5).tolist() == [0]
    apart = boxes + 20 * torch.arange(40)[:, None]
    assert nms(apart, torch.full((40,), 0.5), 0.5).tolist() == list(range(40))
    assert nms(apart, torch.tensor([0.0, -0.0] * 20), 0.5).tolist() == list(range(40))
    scores = torch.tensor([0.1, 0.9] * 20)
    assert nms(apart, scores, 0.5).tolist() == [*range(1, 40, 2), *range(0, 40, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iou_exactly_at_the_threshold_stays(dtype: torch.dtype) -> None:
    # 4 x 4 against its lower half: 1/2; against a quarter: 1/4. All exact.
    boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 2, 2]], dtype=dtype)
    scores = torch.tensor([0.9, 0.8, 0.7], dtype=dtype)
    assert nms(boxes, scores, 0.5).tolist() == [0, 1, 2]
    assert nms(boxes, scores, math.nextafter(0.5, 0)).tolist() == [0, 2]
    assert nms(boxes, scores, 0.25).tolist() == [0, 2]
    assert nms(boxes, scores, math.nextafter(0.25, 0)).tolist() == [0]
    assert nms(boxes[[0, 0]], scores[:2], 1.0).tolist() == [0, 1]
    assert nms(boxes[[0, 0]], scores[:2], math.nextafter(1.0, 0)).tolist() == [0]


def test_the_threshold_is_compared_in_double() -> None:
    boxes = torch.tensor([[0, 0, 5, 5], [0, 0, 5, 3]], dtype=torch.float32)  # 15 / 25: float32 0.6 is above 0.6
    scores = torch.tensor([0.9, 0.8])
    assert float(np.float32(0.6)) > 0.6
    assert nms(boxes, scores, 0.6).tolist() == [0]
    assert nms(boxes, scores, float(np.float32(0.6))).tolist() == [0, 1]
    assert nms(boxes.double(), scores.double(), 0.6).tolist() == [0, 1]


def test_nan_scores_come_first_and_infinite_ones_count() -> None:
    boxes = random_boxes(7) + 300 * torch.arange(7)[:, None]
    scores = torch.tensor([0.5, NAN, INF, -INF, -NAN, 0.7, -1.0])
    assert nms(boxes, scores, 0.5).tolist() == [1, 4, 2, 5, 0, 6, 3]
    assert nms(boxes.double(), scores.double(), 0.5).tolist() == [1, 4, 2, 5, 0, 6, 3]
    assert scores.sort(descending=True, stable=True).indices.tolist() == [1, 4, 2, 5, 0, 6, 3]


def test_a_nan_iou_never_suppresses() -> None:
    empty = torch.tensor([[5.0, 5, 5, 5]]).repeat(20, 1)
    assert nms(empty, torch.rand(20), 0.0).numel() == 20


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.4])
def test_broken_boxes_follow_the_reference(threshold: float) -> None:
    values = torch.tensor([NAN, INF, -INF, 0.0, 1.0, 2.0, 3.0, 1e30, -1e30, 1e-40])
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        boxes = values[torch.randint(0, len(values), (60, 4), generator=generator)]
        scores = torch.rand(60, generator=generator)
        # The plain loop takes numpy's maximum, which spreads NaN; the kernel's comparisons are std::max's.
        kept: list[int] = []
        for j in scores.sort(descending=True, stable=True).indices.tolist():
            if not any(std_iou(boxes[i].tolist(), boxes[j].tolist()) > threshold for i in kept):
                kept.append(j)
        assert nms(boxes, scores, threshold).tolist() == kept


def std_iou(a: list[float], b: list[float]) -> float:
    """C++: std::max(a, b) is b only if a < b; in float32."""
    with np.errstate(all="ignore"):
        f = np.float32
        (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (tuple(map(f, box)) for box in (a, b))

        def largest(p: Any, q: Any) -> Any:
            return q if p < q else p

        def smallest(p: Any, q: Any) -> Any:
            return q if q < p else p

        w = largest(f(0), smallest(ax2, bx2) - largest(ax1, bx1))
        h = largest(f(0), smallest(ay2, by2) - largest(ay1, by1))
        inter = w * h
        return float(inter / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter))


def test_labels_all_distinct_or_all_equal() -> None:
    boxes, scores = random_boxes(300), torch.rand(300)
    distinct = torch.randperm(300) - 2**62
    assert torch.equal(batched_nms(boxes, scores, distinct, 0.1), scores.argsort(descending=True, stable=True))
    equal = torch.full((300,), -7)
    assert torch.equal(batched_nms(boxes, scores, equal, 0.5), nms(boxes, scores, 0.5))
    assert torch.equal(batched_nms(boxes, scores, equal.int(), 0.5), nms(boxes, scores, 0.5))


def test_coordinates_are_not_shifted_by_class() -> None:
    # An offset of 80 classes x 1e6 pixels would swallow the coordinates of these boxes.
    boxes = torch.tensor([[1e6, 1e6, 1e6 + 4, 1e6 + 4], [1e6 + 4, 1e6, 1e6 + 8, 1e6 + 4]])
    assert batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([79, 79]), 0.01).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {"max_det": 7},
        {"max_det": 500, "labels": True},
        {"max_det": 20, "labels": True, "counts": True, "score_threshold": 0.3},
        {"max_det": 0, "labels": True},
        {"max_det": 3, "score_threshold": 2.0},
    ],
)
def test_padded(options: dict[str, Any], dtype: torch.dtype) -> None:
    boxes, scores = random_boxes(5, 120, dtype=dtype), torch.rand(5, 120).to(dtype)
    arguments: dict[str, Any] = {"iou_threshold": 0.4, "max_det": options["max_det"]}
    if "score_threshold" in options:
        arguments["score_threshold"] = options["score_threshold"]
    if "counts" in options:
        arguments["counts"] = torch.tensor([120, 0, 1, 77, 130])
    labels = torch.randint(0, 4, (5, 120)) if "labels" in options else None
    ours = nms_padded(boxes, scores, labels, **arguments)
    expected = nms_padded_reference(boxes, scores, labels, **arguments)
    assert torch.equal(ours[0], expected[0])
    assert torch.equal(ours[1], expected[1])
    assert torch.equal((ours[0] >= 0).sum(1), ours[1])


def test_padded_scores_and_counts_at_their_borders() -> None:
    boxes = random_boxes(1, 5) + 300 * torch.arange(5)[:, None]
    scores = torch.tensor([[0.5, NAN, -INF, 0.25, 0.75]])
    indices, kept = nms_padded(boxes, scores, iou_threshold=0.5, max_det=6)
    assert indices.tolist() == [[1, 4, 0, 3, 2, -1]]
    assert kept.tolist() == [5]
    assert nms_padded(boxes, scores, iou_threshold=0.5, max_det=6, score_threshold=0.25)[0].tolist() == [
        [4, 0, -1, -1, -1, -1]
    ]
    for count, expected in ((-3, 0), (0, 0), (2, 2), (9, 5)):
        assert nms_padded(boxes, scores, iou_threshold=0.5, max_det=6, counts=torch.tensor([count]))[1] == expected


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_padded_without_boxes(shape: tuple[int, int]) -> None:
    indices, kept = nms_padded(torch.zeros(*shape, 4), torch.zeros(*shape), iou_threshold=0.5, max_det=2)
    assert torch.equal(indices, torch.full((shape[0], 2), -1))
    assert torch.equal(kept, torch.zeros(shape[0], dtype=torch.int64))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70), st.sampled_from([0.0, 0.25, 0.5, 1 / 3, 0.7]), st.integers(0, 9))
def test_properties(seed: int, n: int, threshold: float, max_det: int) -> None:
    """On a coarse grid, so that ties, equal boxes, empty boxes and IoUs at the threshold are frequent."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 6, (n, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + torch.randint(0, 5, (n, 2), generator=generator)], 1)
    scores = torch.randint(0, 4, (n,), generator=generator) / 4
    labels = torch.randint(0, 3, (n,), generator=generator)
    kept = batched_nms(boxes, scores, labels, threshold)
    assert torch.equal(kept, nms_reference(boxes, scores, threshold, labels))
    assert torch.equal(batched_nms(boxes[kept], scores[kept], labels[kept], threshold), torch.arange(len(kept)))
    padded, number = nms_padded(boxes[None], scores[None], labels[None], iou_threshold=threshold, max_det=max_det)
    assert torch.equal(padded[0, : int(number)], kept[:max_det])


def test_views_are_taken_as_they_are() -> None:
    boxes, scores = random_boxes(50), torch.rand(50)
    assert torch.equal(nms(boxes.T.contiguous().T, scores[:, None].expand(50, 2)[:, 0], 0.5), nms(boxes, scores, 0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_numpy_gives_the_same(dtype: type) -> None:
    kind = torch.from_numpy(np.zeros(1, dtype)).dtype
    boxes, scores, labels = random_boxes(3, 90, dtype=kind), torch.rand(3, 90).to(kind), torch.randint(0, 4, (3, 90))
    counts = torch.tensor([90, 40, 0])
    b, s, i = boxes.numpy(), scores.numpy(), labels.numpy()
    assert np.array_equal(C.nms(b[0], s[0], 0.5), nms(boxes[0], scores[0], 0.5).numpy())
    assert np.array_equal(
        C.batched_nms(b[0], s[0], i[0], 0.5), batched_nms(boxes[0], scores[0], labels[0], 0.5).numpy()
    )
    options: dict[str, Any] = {"iou_threshold": 0.5, "max_det": 30, "score_threshold": 0.1}
    ours = C.nms_padded(b, s, i, counts=counts.numpy(), **options)
    for array, tensor in zip(ours, nms_padded(boxes, scores, labels, counts=counts, **options), strict=True):
        assert np.array_equal(array, tensor.numpy())


DIGEST = """
import hashlib, numpy, leyolo._C as C
random, digest = numpy.random.default_rng(3), hashlib.sha256()
for n in [*range(40), 500, 3000]:
    corner = random.integers(0, 200, (n, 2)) / 4
    boxes = numpy.concatenate([corner, corner + random.integers(0, 80, (n, 2)) / 4], 1).astype("float32")
    scores, labels = (random.integers(0, 500, n) / 8).astype("float32"), random.integers(0, 5, n)
    for threshold in (-0.1, 0.0, 0.25, 1 / 3, 0.5, 0.6):
        digest.update(C.nms(boxes, scores, threshold).tobytes())
        digest.update(C.batched_nms(boxes, scores, labels, threshold).tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_decides_alike() -> None:
    digests = set()
    for isa in C.build_info()["isas"]:
        run = subprocess.run(
            [sys.executable, "-c", DIGEST], env={**os.environ, "LEYOLO_ISA": isa}, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        digests.add(run.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == 64


def test_registration() -> None:
    boxes, scores, labels = random_boxes(2, 20), torch.rand(2, 20), torch.randint(0, 3, (2, 20))
    opcheck(torch.ops.leyolo.nms, boxes[0], scores[0], labels[0], 0.5)
    opcheck(torch.ops.leyolo.nms, boxes[0], scores[0], None, 0.5)
    opcheck(torch.ops.leyolo.nms_padded, boxes, scores, labels, torch.tensor([20, 3]), 0.5, 6, 0.1)
    compiled_equals_eager(nms_padded, boxes, scores, labels, iou_threshold=0.5, max_det=6)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled_equals_eager(nms, boxes[0], scores[0], 0.5)
        compiled_equals_eager(batched_nms, boxes[0], scores[0], labels[0], 0.5)


def test_boxes_that_need_a_gradient_are_welcome() -> None:
    boxes = random_boxes(10).requires_grad_()
    kept = nms(boxes, boxes[:, 0], 0.5)
    boxes[kept].sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.sum() == 4 * len(kept)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"boxes": torch.zeros(2, 5, 3)}, r"boxes must be \[B, N, 4\], got float32 \[2, 5, 3\]"),
        ({"boxes": torch.zeros(5, 4)}, r"boxes must be \[B, N, 4\]"),
        ({"boxes": torch.zeros(2, 5, 4, dtype=torch.int64)}, "share a dtype"),
        ({"scores": torch.zeros(2, 6)}, r"scores must be \[B, N\] = \[2, 5\], got float32 \[2, 6\]"),
        ({"scores": torch.zeros(2, 5, dtype=torch.float64)}, "boxes and scores must share a dtype"),
        ({"labels": torch.zeros(2, 5)}, r"labels must be int64 \[B, N\] = \[2, 5\], got float32"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, "labels must be int64"),
        ({"counts": torch.zeros(3, dtype=torch.int64)}, r"counts must be int64 \[B\] = \[2\]"),
        ({"max_det": -1}, "max_det must not be negative, got -1"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments = {"boxes": torch.zeros(2, 5, 4), "scores": torch.zeros(2, 5), "iou_threshold": 0.5, "max_det": 3}
    with pytest.raises((ValueError, RuntimeError), match=text):
        nms_padded(**{**arguments, **change})


def test_integer_boxes_and_wrong_ranks_are_refused() -> None:
    integers = torch.zeros(3, 4, dtype=torch.int64)
    with pytest.raises((ValueError, RuntimeError), match="nms: expected float32, float64, float16 or bfloat16"):
        nms(integers, integers[:, 0], 0.5)
    with pytest.raises((ValueError, RuntimeError), match=r"expected boxes \[N, 4\], scores \[N\]"):
        nms(torch.zeros(1, 3, 4), torch.zeros(1, 3), 0.5)
    with pytest.raises(ValueError, match=r"expected boxes \[N, 4\], scores \[N\]"):
        C.nms(np.zeros((1, 3, 4), np.float32), np.zeros((1, 3), np.float32), 0.5)
    with pytest.raises(ValueError, match="C-contiguous"):
        C.nms(np.zeros((4, 3), np.float32).T, np.zeros(3, np.float32), 0.5)
    with pytest.raises(ValueError, match="labels must be int64"):
        C.batched_nms(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), np.zeros(3, np.int32), 0.5)

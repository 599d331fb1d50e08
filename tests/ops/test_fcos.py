from __future__ import annotations

from typing import Any

import pytest
import torch
from assignment_cases import (
    anchors,
    check_consistent,
    digests_on_every_isa,
    needs_cpu,
    numpy_arguments,
    random_batch,
    same,
)

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import fcos_assign
from leyolo.ops.fcos import fcos_reference

RANGES = torch.tensor([[0.0, 16.0], [16.0, 40.0], [40.0, torch.inf]])


def batch(*args: Any, fmt: str = "xyxy", **kwargs: Any) -> dict[str, Any]:
    """Arguments of fcos_assign."""
    arguments = random_batch(*args, fmt=fmt, **kwargs)
    return {name: arguments[name] for name in ("gt_boxes", "gt_labels", "gt_counts", "centers", "strides")}


def against_reference(arguments: dict[str, Any], **options: Any) -> None:
    out = fcos_assign(**arguments, **options)
    check_consistent(out, arguments["gt_counts"])
    for b, count in enumerate(arguments["gt_counts"].tolist()):
        boxes = arguments["gt_boxes"][b, :count]
        expected = fcos_reference(boxes, arguments["centers"], arguments["strides"], **options)
        assert torch.equal(out.gt_index[b], expected)
        got = torch.bincount(expected[expected >= 0], minlength=out.dynamic_k.shape[1])
        assert torch.equal(out.dynamic_k[b], got)
    assert torch.equal(out.iou, (out.gt_index >= 0).float())
    assert torch.equal(out.score, out.iou)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fmt", ["cxcywh", "xyxy"])
@pytest.mark.parametrize("ranges", [None, RANGES])
def test_values(ranges: Any, fmt: str, dtype: torch.dtype) -> None:
    against_reference(batch(3, 14, dtype=dtype, fmt=fmt), fmt=fmt, ranges=ranges)


@pytest.mark.parametrize(("targets", "size"), [(1, 32), (3, 64), (40, 160), (90, 256)])
def test_sizes(targets: int, size: int) -> None:
    against_reference(batch(2, targets, size=size, seed=targets), ranges=RANGES)
    against_reference(batch(2, targets, size=size, seed=targets), radius=2.5)


def test_ranges_include_their_ends_and_follow_the_order_of_the_strides() -> None:
    centers, strides = anchors(64, 64, (16, 8))
    box = torch.tensor([[[0.0, 0, 32, 32]]])
    arguments = (box, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, dtype=torch.int64), centers, strides)
    # The centres of stride 16 within the square reach 24 px, those of stride 8 reach 20 px.
    for low, high, taken in ((24.0, 25.0, True), (23.0, 24.0, True), (24.1, 25.0, False), (23.0, 23.9, False)):
        out = fcos_assign(*arguments, ranges=[[low, high], [0.0, 1.0]])
        assert bool((out.gt_index[0, strides == 16] == 0).any()) is taken
        assert (out.gt_index[0, strides == 8] == -1).all()


def test_smaller_area_wins_and_ties_go_to_the_lower_index() -> None:
    centers, strides = anchors(32, 32, (8,))
    box = torch.tensor([[[0.0, 0, 32, 32], [4, 4, 28, 28], [4, 4, 28, 28]]])
    out = fcos_assign(box, torch.zeros(1, 3, dtype=torch.int64), torch.tensor([3]), centers, strides)
    assert out.dynamic_k.tolist() == [[0, 4, 0]]


def test_int32_labels_and_counts() -> None:
    arguments = batch()
    narrow = {**arguments, "gt_labels": arguments["gt_labels"].int(), "gt_counts": arguments["gt_counts"].int()}
    same(fcos_assign(**narrow), fcos_assign(**arguments))


def test_padding_and_batch_do_not_matter() -> None:
    arguments = batch(4, 15)
    dirty = {**arguments, "gt_boxes": arguments["gt_boxes"].clone()}
    for b, count in enumerate(arguments["gt_counts"].tolist()):
        dirty["gt_boxes"][b, count:] = torch.nan
    whole = fcos_assign(**arguments)
    same(fcos_assign(**dirty), whole)
    for b in range(4):
        single = {k: v if k in ("centers", "strides") else v[b : b + 1] for k, v in arguments.items()}
        same((t[0] for t in fcos_assign(**single)), (t[b] for t in whole))


def background(arguments: dict[str, Any]) -> None:
    out = fcos_assign(**arguments)
    check_consistent(out, arguments["gt_counts"])
    assert (out.gt_index == -1).all()


def test_nothing_to_assign() -> None:
    background(batch(2, 0))
    background(batch(0, 3))
    background({**batch(2, 3), "gt_counts": torch.zeros(2, dtype=torch.int64)})
    background({**batch(1, 3), "gt_boxes": torch.full((1, 3, 4), torch.nan)})
    background({**batch(1, 3), "centers": torch.zeros(0, 2), "strides": torch.zeros(0)})


def test_five_thousand_targets() -> None:
    against_reference(batch(1, 5000, size=320), ranges=RANGES)


def test_numpy_gives_the_same_bits() -> None:
    arguments = batch(3, 14)
    same(C.fcos_assign(**numpy_arguments(arguments)), fcos_assign(**arguments))
    same(
        C.fcos_assign(**numpy_arguments(arguments), radius=3.0, ranges=RANGES.numpy()),
        fcos_assign(**arguments, radius=3.0, ranges=RANGES),
    )


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
import hashlib, numpy as np, leyolo._C as C
r = np.random.RandomState(0)
y, x = np.mgrid[0:41, 0:41]
centers = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32) * 8 + 4
low = r.rand(2, 60, 2) * 250
gt = np.concatenate([low, low + r.rand(2, 60, 2) * 90 + 2], 2).astype(np.float32)
a = gt, r.randint(0, 9, (2, 60)), np.array([60, 41]), centers, np.full(1681, 8, np.float32)
print([hashlib.sha256(out.tobytes()).hexdigest() for out in C.fcos_assign(*a)], C.fcos_assign(*a)[3].sum() > 100)
"""
    first, *others = digests_on_every_isa(script)
    assert "True" in first
    assert all(other == first for other in others)


def test_registration() -> None:
    arguments = batch(2, 6, size=64)
    for ranges in (None, RANGES):
        opcheck(torch.ops.leyolo.fcos_assign, *arguments.values(), 1.5, ranges, "xyxy")
        compiled_equals_eager(fcos_assign, **arguments, ranges=ranges)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gt_boxes": torch.zeros(12, 4)}, r"fcos_assign: gt_boxes must be \[B, G, 4\]"),
        ({"gt_boxes": torch.zeros(2, 12, 4, dtype=torch.float64)}, "gt_boxes must be float32, float16 or bfloat16"),
        ({"gt_labels": torch.zeros(2, 12)}, r"gt_labels must be \[2, 12\] int64 or int32, got float32"),
        pytest.param(
            {"gt_counts": torch.tensor([1, 13])},
            r"gt_counts must lie in \[0, 12\], got 13 for image 1",
            marks=needs_cpu,
        ),
        ({"centers": torch.zeros(336, 3)}, r"centers must be \[336, 2\]"),
        ({"strides": torch.zeros(335)}, r"strides must be \[336\]"),
        ({"ranges": torch.zeros(3)}, r"ranges must be \[levels, 2\] or None"),
        pytest.param(
            {"ranges": torch.zeros(2, 2)},
            r"one row for each distinct stride, got float32 \[2, 2\] on cpu for more than 2",
            marks=needs_cpu,
        ),
        pytest.param(
            {"ranges": torch.zeros(4, 2)},
            r"one row for each distinct stride, got float32 \[4, 2\] on cpu for 3 strides",
            marks=needs_cpu,
        ),
        ({"radius": 0.0}, "radius must be positive, got 0"),
        ({"fmt": "xywh"}, "fmt must be 'cxcywh' or 'xyxy', got 'xywh'"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments = {**batch(2, 12), **change}
    with pytest.raises((ValueError, RuntimeError), match=text):
        fcos_assign(**arguments)
    with pytest.raises(ValueError, match=text):
        C.fcos_assign(**numpy_arguments(arguments))

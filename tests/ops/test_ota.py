from __future__ import annotations

from typing import Any

import pytest
import torch
from assignment_cases import (
    check_consistent,
    digests_on_every_isa,
    needs_cpu,
    numpy_arguments,
    one_image,
    random_batch,
    same,
)

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import ota_assign
from leyolo.ops.ota import ota_reference


def against_reference(arguments: dict[str, Any], **options: Any) -> None:
    out = ota_assign(**arguments, **options)
    check_consistent(out, arguments["gt_counts"])
    for b in range(len(out.num_fg)):
        image = one_image(arguments, b)
        del image["obj_logits"]
        gt_index, iou, k = ota_reference(**image, **options)
        assert torch.equal(out.dynamic_k[b, : len(k)], k)
        assert torch.equal(out.gt_index[b], gt_index)
        torch.testing.assert_close(out.iou[b], iou, rtol=0, atol=1e-4)
        assert torch.equal(out.score[b], out.iou[b])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fmt", ["cxcywh", "xyxy"])
def test_values(dtype: torch.dtype, fmt: str) -> None:
    against_reference(random_batch(3, 14, 9, dtype=dtype, fmt=fmt), fmt=fmt)


@pytest.mark.parametrize(("targets", "classes", "size"), [(1, 1, 32), (3, 80, 64), (25, 17, 160), (40, 3, 256)])
def test_sizes(targets: int, classes: int, size: int) -> None:
    against_reference(random_batch(2, targets, classes, size, seed=targets))


@pytest.mark.parametrize(
    "options", [{"topk": 1}, {"topk": 10**6}, {"eps": 0.5}, {"iterations": 1}, {"iterations": 200}]
)
def test_options(options: dict[str, Any]) -> None:
    against_reference(random_batch(2, 10, 5, seed=3), **options)


@pytest.mark.parametrize("eps", [0.02, 0.1, 1.0])
def test_supply_with_nowhere_to_go(eps: float) -> None:
    """Ground truths with few or no central anchors drive their prices up to the penalty of 1e6, in whose presence a
    float32 has no digits left for the rest of the cost: the decisions are those of float64 all the same."""
    differing = total = 0
    for seed in range(12):
        arguments = random_batch(1, 5 + 4 * seed, 4, 96, seed=seed)
        arguments["gt_boxes"][0, ::2, 2:] = 1 + seed / 2
        arguments["gt_boxes"][0, :2, :2] += 500
        image = one_image(arguments, 0)
        del image["obj_logits"]
        expected, _, k = ota_reference(**image, eps=eps)
        out = ota_assign(**arguments, eps=eps)
        assert torch.equal(out.dynamic_k[0], k)
        differing += int((out.gt_index[0] != expected).sum())
        total += len(expected)
    assert differing <= total * 0.001  # ties of the same anchor between equals, in the last digits


def test_a_crowd_keeps_its_anchors() -> None:
    """Where greedy assignment starves ground truths, prices hand the losers their next best anchors."""
    arguments = random_batch(1, 30, 5, 320)
    arguments["gt_boxes"][..., :2] = 160 + torch.randn(1, 30, 2) * 12
    arguments["gt_boxes"][..., 2:] = 60
    out = ota_assign(**arguments)
    check_consistent(out, arguments["gt_counts"])
    assert torch.bincount(out.gt_index[out.gt_index >= 0], minlength=30).min() >= 1


def test_rounding_does_not_choose_between_equals() -> None:
    """Of several whose best anchor is the same, frequent in a crowd, the first gets it."""
    against_reference(random_batch(1, 300, 4, 128))


def test_objectness_takes_no_part() -> None:
    arguments = random_batch()
    same(ota_assign(**{**arguments, "obj_logits": None}), ota_assign(**arguments))


def test_int32_labels_and_counts() -> None:
    arguments = random_batch()
    narrow = {**arguments, "gt_labels": arguments["gt_labels"].int(), "gt_counts": arguments["gt_counts"].int()}
    same(ota_assign(**narrow), ota_assign(**arguments))


def test_padding_and_batch_do_not_matter() -> None:
    arguments = random_batch(4, 15, 6)
    dirty = {**arguments, "gt_boxes": arguments["gt_boxes"].clone(), "gt_labels": arguments["gt_labels"].clone()}
    for b, count in enumerate(arguments["gt_counts"].tolist()):
        dirty["gt_boxes"][b, count:] = torch.nan
        dirty["gt_labels"][b, count:] = -(10**9)
    whole = ota_assign(**arguments)
    same(ota_assign(**dirty), whole)
    for b in range(4):
        single = {k: v if k in ("centers", "strides") else v[b : b + 1] for k, v in arguments.items()}
        same((t[0] for t in ota_assign(**single)), (t[b] for t in whole))


def background(arguments: dict[str, Any]) -> None:
    out = ota_assign(**arguments)
    check_consistent(out, arguments["gt_counts"])
    assert (out.gt_index == -1).all()


def test_nothing_to_assign() -> None:
    background(random_batch(2, 0))
    background(random_batch(0, 3))
    background({**random_batch(2, 3), "gt_counts": torch.zeros(2, dtype=torch.int64)})
    empty = random_batch(1, 3)
    for name in ("cls_logits", "obj_logits", "boxes"):
        empty[name] = empty[name][:, :0]
    background({**empty, "centers": empty["centers"][:0], "strides": empty["strides"][:0]})


def test_more_supply_than_anchors() -> None:
    arguments = random_batch(1, 40, 3, 32)
    out = ota_assign(**arguments)
    check_consistent(out, arguments["gt_counts"])
    assert out.dynamic_k.sum() > out.gt_index.shape[1]
    assert (out.gt_index >= 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_never_matches(value: float) -> None:
    arguments = random_batch(1, 8, 5)
    clean = ota_assign(**arguments)
    victims = (clean.gt_index[0] >= 0).nonzero()[:, 0]
    logits, boxes = arguments["cls_logits"].clone(), arguments["boxes"].clone()
    logits[0, victims[::2], 3] = value
    boxes[0, victims[1::2], 1] = torch.nan
    out = ota_assign(**{**arguments, "cls_logits": logits, "boxes": boxes})
    check_consistent(out, arguments["gt_counts"])
    assert (out.gt_index[0, victims[::2]] == -1).all()
    assert (out.iou[0, victims[1::2]] == 0).all()
    assert not out.iou.isnan().any()


def test_five_thousand_targets() -> None:
    arguments = random_batch(1, 5000, 4, 160)
    out = ota_assign(**arguments, iterations=5)
    check_consistent(out, arguments["gt_counts"])
    assert (out.gt_index >= 0).float().mean() > 0.9


def test_numpy_gives_the_same_bits() -> None:
    arguments = random_batch(3, 14, 9)
    same(C.ota_assign(**numpy_arguments(arguments)), ota_assign(**arguments))
    half = random_batch(2, 5, 3, dtype=torch.float16, fmt="xyxy")
    same(C.ota_assign(**numpy_arguments(half), fmt="xyxy"), ota_assign(**half, fmt="xyxy"))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    arguments = numpy_arguments(random_batch(2, 30, 9, 256))
    threads = C.num_threads()
    try:
        results = []
        for n in (1, 2, 5):
            C.set_num_threads(n)
            results.append(C.ota_assign(**arguments))
    finally:
        C.set_num_threads(threads)
    for result in results[1:]:
        same(result, results[0])


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
import hashlib, numpy as np, leyolo._C as C
r = np.random.RandomState(0)
y, x = np.mgrid[0:31, 0:31]
centers = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32) * 8 + 4
A, G, K = 961, 30, 37
boxes = np.concatenate([centers[None].repeat(2, 0) + r.randn(2, A, 2) * 5, r.rand(2, A, 2) * 90 + 2], 2)
boxes = boxes.astype(np.float32)
gt = np.concatenate([r.rand(2, G, 2) * 248, r.rand(2, G, 2) * 90 + 2], 2).astype(np.float32)
cls = r.randn(2, A, K).astype(np.float32) * 3
a = cls, None, boxes, gt, r.randint(0, K, (2, G)), np.array([G, 21]), centers, np.full(A, 8, np.float32)
for out in C.ota_assign(*a):
    print(hashlib.sha256(out.tobytes()).hexdigest())
"""
    first, *others = digests_on_every_isa(script)
    assert first.count("\n") == 5
    assert all(other == first for other in others)


def test_registration() -> None:
    arguments = random_batch(2, 6, 4, 64)
    tensors = [value for name, value in arguments.items() if name != "obj_logits"]
    opcheck(torch.ops.leyolo.ota_assign, *tensors, 0.1, 50, 20, "cxcywh")
    compiled_equals_eager(ota_assign, **arguments)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cls_logits": torch.zeros(2, 336)}, r"ota_assign: cls_logits must be \[B, A, C\]"),
        (
            {"cls_logits": torch.zeros(2, 336, 7, dtype=torch.float64)},
            "cls_logits must be float32, float16 or bfloat16",
        ),
        ({"boxes": torch.zeros(2, 336, 5)}, r"boxes must be \[2, 336, 4\]"),
        ({"gt_boxes": torch.zeros(3, 12, 4)}, r"gt_boxes must be \[B, G, 4\] for 2 images"),
        pytest.param(
            {"gt_labels": torch.full((2, 12), 7)},
            r"gt_labels must lie in \[0, 7\), got 7 for image 0, row 0",
            marks=needs_cpu,
        ),
        pytest.param(
            {"gt_counts": torch.tensor([1, 13])},
            r"gt_counts must lie in \[0, 12\], got 13 for image 1",
            marks=needs_cpu,
        ),
        ({"centers": torch.zeros(336, 3)}, r"centers must be \[336, 2\]"),
        ({"strides": torch.zeros(335)}, r"strides must be \[336\]"),
        ({"eps": 0.0}, "eps must be positive and finite, got 0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"topk": 0}, "topk must be at least 1, got 0"),
        ({"fmt": "xywh"}, "fmt must be 'cxcywh' or 'xyxy', got 'xywh'"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments = {**random_batch(2, 12, 7), **change}
    with pytest.raises((ValueError, RuntimeError), match=text):
        ota_assign(**arguments)
    with pytest.raises(ValueError, match=text):
        C.ota_assign(**numpy_arguments(arguments))

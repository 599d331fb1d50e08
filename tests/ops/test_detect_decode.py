from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.geometry import anchor_points
from leyolo.ops import detect_decode, yolox_decode
from leyolo.ops.detect_decode import detect_decode_reference, yolox_decode_reference

# images, anchors, classes, bins of a side: tails of every vector length and of a chunk of anchors, nothing at all.
SHAPES = [
    (1, 1, 1, 16),
    (2, 84, 80, 16),
    (3, 129, 5, 16),
    (1, 700, 33, 16),
    (2, 128, 17, 8),
    (1, 130, 3, 1),
    (2, 40, 20, 33),
    (0, 84, 80, 16),
    (2, 0, 80, 16),
]
HEADS = ["dfl", "yolox"]


def make(
    batch: int, anchors: int, classes: int, bins: int, dtype: torch.dtype = torch.float32, head: str = "dfl"
) -> tuple[Tensor, Tensor, Tensor]:
    """About one class logit in fifteen above a score of 0.25."""
    channels = 4 * bins if head == "dfl" else 5
    logits = torch.randn(batch, anchors, channels + classes)
    logits[..., channels:] = 2 * logits[..., channels:] - 6
    if head == "yolox":
        logits[..., 4] += 2
    # Values that survive the rounding to half stay clear of the threshold.
    logits[..., channels:][logits[..., channels:] > -3] += 4
    return logits.to(dtype), 640 * torch.rand(anchors, 2), 8.0 * torch.randint(1, 5, (anchors,))


def decode(head: str, *args: Any, reference: bool = False, reg_max: int = 16, **kwargs: Any) -> tuple[Tensor, ...]:
    if head == "yolox":
        return (yolox_decode_reference if reference else yolox_decode)(*args, **kwargs)
    return (detect_decode_reference if reference else detect_decode)(*args, reg_max=reg_max, **kwargs)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(
    shape: tuple[int, ...], dtype: torch.dtype, head: str, multi_label: bool, as_good_as_torch: Callable[..., None]
) -> None:
    inputs = make(*shape, dtype=dtype, head=head)
    options = {"reg_max": shape[3], "multi_label": multi_label, "max_candidates": 500}
    ours = decode(head, *inputs, **options)
    expected = decode(head, *inputs, reference=True, **options)
    assert [t.dtype for t in ours] == [torch.float32, torch.float32, torch.int64, torch.int64]
    assert torch.equal(ours[3], expected[3])
    assert torch.equal(ours[2], expected[2])
    for i in (0, 1):
        as_good_as_torch(ours[i], lambda *t, i=i, **k: decode(head, *t, reference=True, **k)[i], *inputs, **options)


def test_many_candidates_are_found() -> None:
    """The shapes above do exercise the writing pass."""
    for head in HEADS:
        counts = decode(head, *make(2, 700, 80, 16, head=head), multi_label=True)[3]
        assert (counts > 50).all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.001, 0.25, 0.9, 1.0, 2.0])
def test_thresholds(threshold: float, multi_label: bool, head: str) -> None:
    inputs = make(2, 300, 7, 16, head=head)
    options = {"score_threshold": threshold, "multi_label": multi_label}
    ours, expected = (decode(head, *inputs, reference=r, **options) for r in (False, True))
    assert torch.equal(ours[3], expected[3])
    assert torch.equal(ours[2], expected[2])
    pairs = 300 * (7 if multi_label else 1)
    assert ours[1].shape == (2, pairs)
    if threshold <= 0:
        assert (ours[3] == pairs).all()
    if threshold >= 1:
        assert (ours[3] == 0).all()


def test_the_threshold_is_strict_in_the_logit_domain() -> None:
    limit = np.float32(np.log(0.25) - np.log1p(-0.25))
    values = [np.nextafter(limit, np.float32(-9)), limit, np.nextafter(limit, np.float32(9))]
    logits = torch.zeros(1, 3, 4 * 16 + 1)
    logits[0, :, -1] = torch.tensor([float(v) for v in values])
    centers, strides = torch.tensor([[1.0, 1], [2, 2], [3, 3]]), torch.ones(3)
    boxes, _, _, counts = detect_decode(logits, centers, strides)
    assert counts.tolist() == [1]
    assert boxes[0, 0].tolist() == [3 - 7.5, 3 - 7.5, 3 + 7.5, 3 + 7.5]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_more_candidates_than_fit(head: str, multi_label: bool) -> None:
    """Few distinct logits, so that the cut falls among equals; -0 equals +0."""
    logits, centers, strides = make(3, 400, 9, 16, head=head)
    first = 64 if head == "dfl" else 5
    logits[..., first:] = (
        torch.randint(-2, 3, logits[..., first:].shape) * torch.tensor([-1.0, 1.0])[torch.randint(2, (3, 400, 9))]
    )
    logits[1, ..., first:] -= 0.5
    if head == "yolox":
        logits[..., 4] = torch.randint(-1, 2, (3, 400)).float()
    for k in (1, 2, 37, 399, 400, 1111):
        options = {"score_threshold": 0.01, "multi_label": multi_label, "max_candidates": k}
        ours, expected = (decode(head, logits, centers, strides, reference=r, **options) for r in (False, True))
        assert ours[0].shape == (3, min(k, 400 * (9 if multi_label else 1)), 4)
        assert torch.equal(ours[3], expected[3])
        if head == "dfl":  # yolox: plain torch rounds products of equal sigmoids to other ties
            assert torch.equal(ours[2], expected[2])
            torch.testing.assert_close(ours[0], expected[0], atol=2e-4, rtol=0)
        torch.testing.assert_close(ours[1].sort(dim=1).values, expected[1].sort(dim=1).values)


def test_all_candidates_of_one_image_equal() -> None:
    logits = torch.zeros(1, 1000, 65)
    boxes, scores, _, counts = detect_decode(
        logits, torch.arange(1000.0)[:, None].expand(1000, 2), torch.ones(1000), max_candidates=130
    )
    assert counts.tolist() == [130]
    assert torch.equal(boxes[0, :, 0], torch.arange(130.0) - 7.5)
    assert (scores == 0.5).all()


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_nan_never_passes(head: str, multi_label: bool) -> None:
    logits, centers, strides = make(2, 50, 6, 16, head=head)
    first = 64 if head == "dfl" else 5
    logits[0, :10] = torch.nan
    logits[1, :, first] = torch.nan
    logits[1, 7, first + 1 :] = -torch.inf
    logits[1, 8, first + 1] = torch.inf
    options = {"score_threshold": 0.0, "multi_label": multi_label}
    ours, expected = (decode(head, logits, centers, strides, reference=r, **options) for r in (False, True))
    assert torch.equal(ours[3], expected[3])
    assert torch.equal(ours[2], expected[2])
    assert ours[3].tolist() == ([40 * 6, 50 * 5] if multi_label else [40, 50])
    assert not ours[1].isnan().any()


def test_what_lies_behind_counts_is_zero_in_torch() -> None:
    logits, centers, strides = make(2, 84, 2, 16)
    out = detect_decode(logits, centers, strides)
    for image, count in enumerate(out[3].tolist()):
        assert 0 < count < 84
        assert all((t[image, count:] == 0).all() for t in out[:3])


def test_no_gradient() -> None:
    logits, centers, strides = make(1, 84, 80, 16)
    assert not detect_decode(logits.requires_grad_(), centers, strides)[0].requires_grad


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("head", HEADS)
def test_numpy_gives_the_same_bits(head: str, dtype: type) -> None:
    logits, centers, strides = (t.numpy() for t in make(2, 300, 20, 16, head=head))
    function = C.detect_decode if head == "dfl" else C.yolox_decode
    logits = logits.astype(dtype)
    for multi_label in (False, True):
        ours = function(logits, centers, strides, multi_label=multi_label)
        expected = decode(head, *map(torch.from_numpy, (logits, centers, strides)), multi_label=multi_label)
        assert np.array_equal(ours[3], expected[3].numpy())
        for image, count in enumerate(ours[3]):
            assert all(
                np.array_equal(a[image, :count], b[image, :count].numpy())
                for a, b in zip(ours[:3], expected[:3], strict=True)
            )


@pytest.mark.parametrize("size", [320, 640])
def test_golden(size: int, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / f"bus_{size}.npz")
    centers, strides = anchor_points(size, size, (8, 16, 32))
    at = golden["idx"][0]
    boxes, scores, labels, counts = C.detect_decode(
        golden["logits_at_idx"], centers[at], strides[at], score_threshold=0.0
    )
    assert counts.tolist() == [len(at)]
    expected = golden["boxes_xywh"][0, at]
    corners = np.concatenate([expected[:, :2] - expected[:, 2:] / 2, expected[:, :2] + expected[:, 2:] / 2], 1)
    np.testing.assert_allclose(boxes[0], corners, atol=1e-3)
    np.testing.assert_allclose(scores[0], golden["cls_max"][0, at], atol=1e-6)
    assert np.array_equal(labels[0], golden["cls_argmax"][0, at])


LEVELS = (700, 129, 0, 40)


def levels(features: int = 24, bins: int = 16, classes: int = 7) -> tuple[dict[str, Any], np.ndarray]:
    """What the head knows before its last box layers, as slices of one map; and the logits after them."""
    joint = np.random.randn(2, sum(LEVELS), features + classes).astype(np.float32)
    hidden, logits = joint[..., :features], joint[..., features:]
    logits[:] = 2 * logits - 4
    parts, packed, first = [], [], 0
    for count in LEVELS:
        weight = np.random.randn(4 * bins, features, 1, 1).astype(np.float32)
        bias = np.random.randn(4 * bins).astype(np.float32)
        packed.append(C.conv2d_pack(weight, bias))
        x = np.ascontiguousarray(hidden[:, None, first : first + count])
        parts.append(C.conv2d(x, weight, bias)[:, 0] if count else np.empty((2, 0, 4 * bins), np.float32))
        first += count
    inputs = {"classes": logits, "features": hidden, "weights": packed, "anchors": list(LEVELS)}
    inputs |= {"centers": 640 * np.random.rand(first, 2).astype(np.float32), "reg_max": bins}
    inputs["strides"] = np.random.choice([8, 16, 32], first).astype(np.float32)
    return inputs, np.concatenate([np.concatenate(parts, 1), logits], 2)


def same(ours: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """The same bits, up to counts."""
    assert np.array_equal(ours[3], expected[3])
    for i in range(3):
        assert ours[i].shape == expected[i].shape
        for image, count in enumerate(ours[3]):
            assert ours[i][image, :count].tobytes() == expected[i][image, :count].tobytes()


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.001, 0.02, 0.25, 0.9, 0.9999, 1.0, 2.0])
def test_the_last_box_layer_where_needed_gives_the_same_bits(threshold: float, multi_label: bool) -> None:
    for features, bins in ((24, 16), (64, 16), (5, 3)):
        inputs, logits = levels(features, bins)
        for most in (30000, 300, 1):
            options = {"score_threshold": threshold, "multi_label": multi_label, "max_candidates": most}
            ours = C.detect_decode_features(**inputs, **options)
            same(ours, C.detect_decode(logits, inputs["centers"], inputs["strides"], reg_max=bins, **options))
            if 0 < threshold < 0.9:
                assert (ours[3] > 0).all()


def test_the_last_box_layer_where_needed_with_ties_and_nan() -> None:
    inputs, logits = levels()
    for i in (0, 1):
        inputs["classes"][i, 100:400] = inputs["classes"][i, 100]  # ties
        inputs["classes"][i, ::7, 3] = np.nan
    logits[..., 64:] = inputs["classes"]
    for multi_label in (False, True):
        for most in (30000, 50):
            options = {"score_threshold": 0.05, "multi_label": multi_label, "max_candidates": most}
            ours = C.detect_decode_features(**inputs, **options)
            same(ours, C.detect_decode(logits, inputs["centers"], inputs["strides"], **options))


def test_the_last_box_layer_where_needed_on_any_number_of_threads() -> None:
    inputs, _ = levels()
    threads, results = C.num_threads(), []
    try:
        for n in (1, 3):
            C.set_num_threads(n)
            results.append(C.detect_decode_features(**inputs, score_threshold=0.02))
    finally:
        C.set_num_threads(threads)
    same(*results)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": np.zeros((2, 869, 7))}, "classes must be float32"),
        ({"classes": np.zeros((869, 7), np.float32)}, r"classes must be float32 \[B, A, channels\]"),
        ({"classes": np.zeros((2, 869, 0), np.float32)}, "classes must have channels"),
        ({"classes": np.zeros((2, 7, 869), np.float32).swapaxes(1, 2)}, "classes: channels must follow one another"),
        ({"features": np.zeros((2, 868, 24), np.float32)}, r"features must be \[2, 869, F\]"),
        ({"features": np.zeros((2, 869, 23), np.float32)}, "weights of level 0 must be float32 of"),
        ({"features": np.zeros((2, 869, 24), np.float32)[:, ::-1]}, "anchors that do not overlap"),
        ({"weights": []}, "expected one weight array per level, got 0 for 4 levels"),
        ({"anchors": [700, 129, 0, 41]}, "must have 869 anchors together, got 870"),
        ({"anchors": [700, 170, -1, 0]}, "level 2 has -1 anchors"),
        ({"centers": np.zeros((868, 2), np.float32)}, "centers must be float32"),
        ({"strides": np.zeros(868, np.float32)}, "strides must be float32"),
        ({"reg_max": 0}, "reg_max must be 1 to 1024, got 0"),
        ({"max_candidates": 0}, "max_candidates must be positive"),
        ({"score_threshold": float("nan")}, "must be a number, got NaN"),
    ],
)
def test_the_last_box_layer_where_needed_rejects(change: dict[str, Any], text: str) -> None:
    inputs, _ = levels()
    with pytest.raises(ValueError, match="detect_decode_features: .*" + text):
        C.detect_decode_features(**{**inputs, **change})


PROGRAM = """
import sys, hashlib, numpy as np, leyolo._C as C
rng = np.random.RandomState(3)
logits = (3 * rng.standard_normal((2, 300, 64 + 21))).astype(np.float32)
centers, strides = (640 * rng.random_sample((300, 2))).astype(np.float32), np.full(300, 8, np.float32)
digest = hashlib.sha256()
for function, x in ((C.detect_decode, logits), (C.yolox_decode, logits[..., :26].copy())):
    for multi_label in (False, True):
        for k in (30000, 77):
            *out, counts = function(x, centers, strides, score_threshold=0.3, max_candidates=k, multi_label=multi_label)
            for image, n in enumerate(counts):
                for array in out:
                    digest.update(array[image, :n].tobytes())
print(C.cpu_features()["isa"], digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "LEYOLO_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for isa in C.build_info()["isas"]
    }
    assert len({line.split()[1] for line in outputs}) == 1


def test_any_number_of_threads_gives_the_same_bits() -> None:
    inputs = make(3, 1500, 80, 16)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append([*detect_decode(*inputs), *detect_decode(*inputs, multi_label=True, max_candidates=99)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("multi_label", [False, True])
def test_registration(multi_label: bool) -> None:
    dfl, yolox = make(2, 84, 7, 16), make(2, 84, 7, 16, head="yolox")
    opcheck(torch.ops.leyolo.detect_decode, *dfl, 16, 0.25, 30000, multi_label)
    opcheck(torch.ops.leyolo.yolox_decode, *yolox, 0.25, 100, multi_label)
    compiled_equals_eager(detect_decode, *dfl, multi_label=multi_label)
    compiled_equals_eager(yolox_decode, *yolox, multi_label=multi_label)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"logits": torch.zeros(84, 144)}, r"logits must be \[B, A, 64 \+ C\]"),
        ({"logits": torch.zeros(1, 84, 64)}, r"with C >= 1 classes, got float32 \[1, 84, 64\]"),
        ({"logits": torch.zeros(1, 84, 144, dtype=torch.float64)}, "logits must be float32, float16 or bfloat16"),
        ({"centers": torch.zeros(83, 2)}, r"centers must be float32 \[A, 2\] with the A = 84"),
        ({"centers": torch.zeros(84, 2, dtype=torch.float64)}, r"centers must be float32"),
        ({"strides": torch.zeros(84, 1)}, r"strides must be float32 \[A\]"),
        ({"reg_max": 0}, "reg_max must be 1 to 1024, got 0"),
        ({"reg_max": 40}, r"logits must be \[B, A, 160 \+ C\]"),
        ({"max_candidates": 0}, "max_candidates must be positive, got 0"),
        ({"score_threshold": float("nan")}, "score_threshold must be a number"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {
        "logits": torch.zeros(1, 84, 144),
        "centers": torch.zeros(84, 2),
        "strides": torch.ones(84),
    }
    arguments.update(change)
    with pytest.raises((ValueError, RuntimeError), match="detect_decode: .*" + text):
        detect_decode(arguments.pop("logits"), arguments.pop("centers"), arguments.pop("strides"), **arguments)


def test_yolox_and_numpy_reject() -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"yolox_decode: logits must be \[B, A, 5 \+ C\]"):
        yolox_decode(torch.zeros(1, 4, 5), torch.zeros(4, 2), torch.zeros(4))
    x = np.zeros((1, 4, 144), np.float32)
    with pytest.raises(ValueError, match="detect_decode: logits must be C-contiguous"):
        C.detect_decode(x.transpose(1, 0, 2)[::2], np.zeros((4, 2), np.float32), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="detect_decode: centers must be float32"):
        C.detect_decode(x, np.zeros((4, 2)), np.zeros(4, np.float32))

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assignment_cases import (
    anchors,
    check_consistent,
    digests_on_every_isa,
    needs_cpu,
    numpy_arguments,
    on_device,
    one_image,
    random_batch,
    same,
)
from torch import Tensor

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo.ops import Assignment, tal_assign
from leyolo.ops.tal import tal_reference

GOLDENS = [
    "c1_320",
    "crowd_diffcls_320_c20",
    "crowd_multiscore_320_c20",
    "crowd_samecls_320_c20",
    "g120_rand_320_c20",
    "grid100_640_c20",
    "grid30_320_c80",
    "grid90_b2_320_c10",
    "ident_diffcls_320_c20",
    "ident_samecls_320_c20",
    "mix_b4_320_c20",
    "no_gt_320_c20",
    "one_gt_320_c20",
    "rect_256x448_c7",
    "tiny_320_c20",
]


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(shared: Path, name: str, device: str) -> None:
    file = np.load(shared / "golden" / "assign" / f"tal_{name}.npz")
    meta = json.loads(str(file["meta_json"]))
    centers, _ = anchors(meta["H"], meta["W"], file["strides"])
    arguments = {
        "scores": torch.from_numpy((file["scores_q"].astype(np.float32) + 0.5) / 256),
        "boxes": torch.from_numpy(file["boxes"]),
        "gt_boxes": torch.from_numpy(file["gt_boxes"]),
        "gt_labels": torch.from_numpy(file["gt_labels"][..., 0]).long(),
        "gt_counts": torch.from_numpy(file["num_gt"]).long(),
        "centers": centers,
    }
    out = Assignment(*on_device(device, tal_assign, arguments))
    if device != "cpu":
        same(out, tal_assign(**arguments))
    check_consistent(out, torch.from_numpy(file["num_gt"]))
    clear = ~file["ambiguous"]
    assert clear.mean() > 0.9
    assert np.array_equal(out.gt_index.numpy()[clear], file["l814_gt"].astype(np.int64)[clear])
    agreed = out.gt_index.numpy() == file["l814_gt"]
    if not file["ambiguous"].any():
        np.testing.assert_allclose(out.score, file["l814_score"], rtol=0, atol=2e-5)
    # An ambiguous pick can shift a conflict, hence the normalisation of a few others.
    assert (np.abs(out.score.numpy() - file["l814_score"])[agreed] < 2e-5).mean() > 0.999


def test_goldens_are_all_named(shared: Path) -> None:
    files = (shared / "golden" / "assign").glob("tal_*.npz")
    assert sorted(p.stem.removeprefix("tal_") for p in files) == sorted(GOLDENS)


def batch(*args: Any, fmt: str = "xyxy", **kwargs: Any) -> dict[str, Any]:
    """Arguments of tal_assign."""
    arguments = random_batch(*args, fmt=fmt, **kwargs)
    logits = arguments.pop("cls_logits")
    del arguments["obj_logits"], arguments["strides"]
    return {"scores": logits.float().sigmoid().to(logits.dtype), **arguments}


def against_reference(arguments: dict[str, Any], **options: Any) -> None:
    out = tal_assign(**arguments, **options)
    check_consistent(out, arguments["gt_counts"])
    for b in range(len(out.num_fg)):
        image = one_image(arguments, b)
        gt_index, iou, score = tal_reference(**image, **options)
        assert torch.equal(out.gt_index[b], gt_index)
        torch.testing.assert_close(out.iou[b], iou, rtol=0, atol=1e-4)
        torch.testing.assert_close(out.score[b], score, rtol=1e-4, atol=1e-5)
        got = torch.bincount(gt_index[gt_index >= 0], minlength=out.dynamic_k.shape[1])
        assert torch.equal(out.dynamic_k[b], got)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fmt", ["cxcywh", "xyxy"])
def test_values(dtype: torch.dtype, fmt: str) -> None:
    against_reference(batch(3, 14, 9, dtype=dtype, fmt=fmt), fmt=fmt)


@pytest.mark.parametrize(("targets", "classes", "size"), [(1, 1, 32), (3, 80, 64), (40, 17, 160), (90, 3, 256)])
def test_sizes(targets: int, classes: int, size: int) -> None:
    against_reference(batch(2, targets, classes, size, seed=targets))


@pytest.mark.parametrize(
    "options", [{"topk": 1}, {"topk": 13}, {"topk": 10**6}, {"alpha": 1.0, "beta": 4.0}, {"alpha": 0.7, "beta": 2.5}]
)
def test_options(options: dict[str, Any]) -> None:
    against_reference(batch(2, 10, 5, seed=3), **options)


def test_picks_among_zeros() -> None:
    """Predictions that overlap nothing: the first anchors of the image are picked, and count where they lie inside."""
    arguments = batch(1, 3, 2, 64)
    arguments["boxes"] = arguments["boxes"] + 5000
    arguments["gt_boxes"] = torch.tensor([[[0.0, 0, 30, 30], [0, 0, 64, 64], [40, 40, 60, 60]]])
    out = tal_assign(**arguments)
    against_reference(arguments)
    # Anchors 0 to 3 (x = 4, 12, 20, 28) and 8, 9 of the second row lie in both of the first two: the lowest index wins.
    assert (out.gt_index[0, [0, 1, 2, 3, 8, 9]] == 0).all()
    assert out.dynamic_k.tolist() == [[6, 4, 0]]
    assert (out.score == 0).all()


def test_int32_labels_and_counts() -> None:
    arguments = batch()
    narrow = {**arguments, "gt_labels": arguments["gt_labels"].int(), "gt_counts": arguments["gt_counts"].int()}
    same(tal_assign(**narrow), tal_assign(**arguments))


def test_padding_and_batch_do_not_matter() -> None:
    arguments = batch(4, 15, 6)
    dirty = {**arguments, "gt_boxes": arguments["gt_boxes"].clone(), "gt_labels": arguments["gt_labels"].clone()}
    for b, count in enumerate(arguments["gt_counts"].tolist()):
        dirty["gt_boxes"][b, count:] = torch.nan
        dirty["gt_labels"][b, count:] = -(10**9)
    whole = tal_assign(**arguments)
    same(tal_assign(**dirty), whole)
    for b in range(4):
        alone = tal_assign(**{k: v if k == "centers" else v[b : b + 1] for k, v in arguments.items()})
        same((t[0] for t in alone), (t[b] for t in whole))


def background(arguments: dict[str, Any]) -> None:
    out = tal_assign(**arguments)
    check_consistent(out, arguments["gt_counts"])
    assert (out.gt_index == -1).all()


def test_nothing_to_assign() -> None:
    background(batch(2, 0))
    background(batch(0, 3))
    background({**batch(2, 3), "gt_counts": torch.zeros(2, dtype=torch.int64)})
    far = batch(1, 3)
    background({**far, "gt_boxes": far["gt_boxes"] + 1e4})
    empty = batch(1, 3)
    for name in ("scores", "boxes"):
        empty[name] = empty[name][:, :0]
    background({**empty, "centers": empty["centers"][:0]})


def test_nan_never_matches() -> None:
    arguments = batch(1, 8, 5)
    clean = tal_assign(**arguments)
    victims = (clean.gt_index[0] >= 0).nonzero()[:, 0]
    scores, boxes = arguments["scores"].clone(), arguments["boxes"].clone()
    scores[0, victims[::2]] = torch.nan
    boxes[0, victims[1::2], 2] = torch.nan
    out = tal_assign(**{**arguments, "scores": scores, "boxes": boxes})
    assert (out.gt_index[0, victims[::2]] == -1).all()
    assert not out.score.isnan().any()
    assert not out.iou.isnan().any()
    against_reference({**arguments, "scores": scores, "boxes": boxes})


def test_five_thousand_targets() -> None:
    arguments = batch(1, 5000, 4, 320)
    out = tal_assign(**arguments)
    check_consistent(out, arguments["gt_counts"])
    foreground: Tensor = out.gt_index[0] >= 0
    assert foreground.float().mean() > 0.5
    x, y = arguments["centers"][foreground].T
    box = arguments["gt_boxes"][0, out.gt_index[0, foreground]].T
    assert ((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])).all()


def test_numpy_gives_the_same_bits() -> None:
    arguments = batch(3, 14, 9)
    same(C.tal_assign(**numpy_arguments(arguments)), tal_assign(**arguments))
    half = batch(2, 5, 3, dtype=torch.float16, fmt="cxcywh")
    same(C.tal_assign(**numpy_arguments(half), fmt="cxcywh"), tal_assign(**half, fmt="cxcywh"))


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
import hashlib, numpy as np, leyolo._C as C
r = np.random.RandomState(0)
y, x = np.mgrid[0:40, 0:40]
centers = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32) * 8 + 4
A, G, K = 1600, 60, 37
half = r.rand(2, A, 2) * 60 + 2
boxes = np.concatenate([centers - half, centers + half], 2).astype(np.float32)
low = r.rand(2, G, 2) * 250
gt = np.concatenate([low, low + r.rand(2, G, 2) * 90 + 2], 2).astype(np.float32)
a = r.rand(2, A, K).astype(np.float32), boxes, gt, r.randint(0, K, (2, G)), np.array([G, 41]), centers
for beta in (6.0, 2.5):
    for out in C.tal_assign(*a, beta=beta):
        print(hashlib.sha256(out.tobytes()).hexdigest())
"""
    first, *others = digests_on_every_isa(script)
    assert first.count("\n") == 10
    assert all(other == first for other in others)


def test_registration() -> None:
    arguments = batch(2, 6, 4, 64)
    opcheck(torch.ops.leyolo.tal_assign, *arguments.values(), 10, 0.5, 6.0, 1e-9, "xyxy")
    compiled_equals_eager(tal_assign, **arguments)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scores": torch.zeros(2, 336)}, r"tal_assign: scores must be \[B, A, C\]"),
        ({"scores": torch.zeros(2, 336, 7, dtype=torch.float64)}, "scores must be float32, float16 or bfloat16"),
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
        ({"topk": 0}, "topk must be at least 1, got 0"),
        ({"alpha": -1.0}, "alpha and beta must be finite and not negative, got -1"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"fmt": "xywh"}, "fmt must be 'cxcywh' or 'xyxy', got 'xywh'"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments = {**batch(2, 12, 7), **change}
    with pytest.raises((ValueError, RuntimeError), match=text):
        tal_assign(**arguments)
    with pytest.raises(ValueError, match=text):
        C.tal_assign(**numpy_arguments(arguments))

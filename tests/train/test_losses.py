"""The losses against their written formulas, in float64 and anchor by anchor."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from leyolo.data.batch import Targets
from leyolo.errors import UsageError
from leyolo.ops import Assignment
from leyolo.train.assign import ASSIGNERS, Anchors, anchors, assign, check_assigner
from leyolo.train.losses import (
    Losses,
    corners,
    distances,
    distribution_focal_loss,
    leyolo_loss,
    yolox_boxes,
    yolox_loss,
)

CLASSES, REG_MAX = 5, 16
COMBINATIONS = [(head, name) for head, names in ASSIGNERS.items() for name in names]


def _targets(counts: list[int], side: int = 96) -> Targets:
    """Random boxes; the rows behind the counts hold nonsense that must not matter."""
    most = max([*counts, 1])
    low = torch.rand(len(counts), most, 2) * side * 0.6
    boxes = torch.cat([low, low + 6 + torch.rand(len(counts), most, 2) * side * 0.4], 2)
    labels = torch.randint(0, CLASSES, (len(counts), most))
    for row, count in enumerate(counts):
        boxes[row, count:], labels[row, count:] = -7.0, 0
    return Targets(boxes, labels, torch.tensor(counts), torch.arange(len(counts)))


def _case(head: str, counts: list[int]) -> tuple[Tensor, Targets, Anchors]:
    points = anchors(96, 96, (8, 16, 32))
    channels = CLASSES + (4 * REG_MAX if head == "leyolo" else 5)
    logits = torch.randn(len(counts), len(points.strides), channels, dtype=torch.float64) * 0.7
    return logits.requires_grad_(), _targets(counts), points


def _loss(head: str) -> Callable[..., Losses]:
    return leyolo_loss if head == "leyolo" else yolox_loss


def _ciou(a: list[float], b: list[float]) -> float:
    """Complete IoU of two boxes as the paper writes it (arXiv 1911.08287, equations 7 to 11)."""
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    (wa, ha), (wb, hb) = ((x[2] - x[0], x[3] - x[1]) for x in (a, b))
    iou = inter / (wa * ha + wb * hb - inter)
    rho = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
    return iou - rho / diagonal - v * v / (1 - iou + v)


def _bce(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def _leyolo_formula(logits: Tensor, targets: Targets, points: Anchors, name: str) -> list[float]:
    box_logits, cls_logits = logits[..., : 4 * REG_MAX], logits[..., 4 * REG_MAX :]
    found = assign(name, cls_logits, None, corners(distances(box_logits), *points), targets, points)
    box = cls = dfl = total = 0.0
    for b, a in [(b, a) for b in range(len(logits)) for a in range(len(points.strides))]:
        g, score = int(found.gt_index[b, a]), float(found.score[b, a])
        for c in range(CLASSES):
            mine = g >= 0 and c == int(targets.labels[b, g])
            cls += _bce(float(cls_logits[b, a, c]), score if mine else 0.0)
        if g < 0:
            continue
        total += score
        (x, y), s, truth = points.centers[a].tolist(), float(points.strides[a]), targets.boxes[b, g].tolist()
        probabilities = box_logits[b, a].view(4, REG_MAX).softmax(1).tolist()
        left, top, right, bottom = (s * sum(i * p for i, p in enumerate(side)) for side in probabilities)
        box += score * (1 - _ciou([x - left, y - top, x + right, y + bottom], truth))
        for side, want in zip(probabilities, (x - truth[0], y - truth[1], truth[2] - x, truth[3] - y), strict=True):
            want = min(max(want / s, 0.0), REG_MAX - 1.01)
            lower = int(want)
            near = (lower + 1 - want) * math.log(side[lower]) + (want - lower) * math.log(side[lower + 1])
            dfl -= score * near / 4
    return [7.5 * box / max(total, 1), 0.5 * cls / max(total, 1), 1.5 * dfl / max(total, 1)]


def _yolox_formula(logits: Tensor, targets: Targets, points: Anchors, name: str) -> list[float]:
    boxes = yolox_boxes(logits[..., :4], *points)
    found = assign(name, logits[..., 5:], logits[..., 4], boxes, targets, points)
    iou = obj = cls = l1 = 0.0
    for b, a in [(b, a) for b in range(len(logits)) for a in range(len(points.strides))]:
        g = int(found.gt_index[b, a])
        row = logits[b, a].tolist()
        obj += _bce(row[4], float(g >= 0))
        if g < 0:
            continue
        (x, y), s, truth = points.centers[a].tolist(), float(points.strides[a]), targets.boxes[b, g].tolist()
        cell = x / s - 0.5, y / s - 0.5
        w, h = math.exp(row[2]) * s, math.exp(row[3]) * s
        cx, cy = (row[0] + cell[0]) * s, (row[1] + cell[1]) * s
        mine = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        overlap = [max(0.0, min(mine[i + 2], truth[i + 2]) - max(mine[i], truth[i])) for i in (0, 1)]
        inter, (tw, th) = overlap[0] * overlap[1], (truth[2] - truth[0], truth[3] - truth[1])
        iou += 1 - (inter / (w * h + tw * th - inter)) ** 2
        for c in range(CLASSES):
            cls += _bce(row[5 + c], float(found.iou[b, a]) if c == int(targets.labels[b, g]) else 0.0)
        centre = (truth[0] + truth[2]) / 2 / s - cell[0], (truth[1] + truth[3]) / 2 / s - cell[1]
        wanted = (*centre, math.log(tw / s), math.log(th / s))
        l1 += sum(abs(r - t) for r, t in zip(row[:4], wanted, strict=True))
    positives = max(int(found.num_fg.sum()), 1)
    return [5 * iou / positives, obj / positives, cls / positives, l1 / positives]


@pytest.mark.parametrize(("head", "name"), COMBINATIONS)
def test_formulas(head: str, name: str) -> None:
    logits, targets, points = _case(head, [3, 0, 7])
    if head == "leyolo":
        losses = leyolo_loss(logits, targets, points, assigner=name)
        expected = _leyolo_formula(logits.detach(), targets, points, name)
    else:
        losses = yolox_loss(logits, targets, points, assigner=name, l1=True)
        expected = _yolox_formula(logits.detach(), targets, points, name)
    assert losses.positives > 5
    # The score of an assigner is float32 and enters both sides alike; eps 1e-7 in the CIoU is the only difference.
    assert losses.parts.tolist() == pytest.approx(expected, rel=1e-6)
    assert losses.total.item() == pytest.approx(sum(expected), rel=1e-6)


@pytest.mark.parametrize(("head", "name"), COMBINATIONS)
def test_gradient_is_that_of_the_total(head: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against central differences along a random direction, the assignment held fixed (it is piecewise constant).

    For the leyolo head along the class logits only: the weight alpha of CIoU carries no gradient by definition."""
    logits, targets, points = _case(head, [4, 2])
    loss = partial(_loss(head), targets=targets, points=points, assigner=name)
    if head == "yolox":
        loss = partial(loss, l1=True)
    once: list[Assignment] = []

    def fixed(*arguments: Any) -> Assignment:
        once.append(once[0] if once else assign(*arguments))
        return once[0]

    monkeypatch.setattr("leyolo.train.losses.assign", fixed)
    loss(logits).total.backward()
    assert logits.grad is not None
    direction = torch.randn_like(logits)
    if head == "leyolo":
        direction[..., : 4 * REG_MAX] = 0
    step = 1e-5
    with torch.no_grad():
        ahead, behind = (float(loss(logits + sign * step * direction).total) for sign in (1, -1))
    assert float((logits.grad * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)


@pytest.mark.parametrize(("head", "name"), COMBINATIONS)
def test_no_object(head: str, name: str) -> None:
    """A batch of empty pictures teaches the background, and every logit has a gradient."""
    logits, targets, points = _case(head, [0, 0])
    losses = _loss(head)(logits, targets, points, assigner=name)
    losses.total.backward()
    assert losses.positives == 0
    assert logits.grad is not None
    present = slice(4 * REG_MAX, None) if head == "leyolo" else slice(4, 5)
    gain = 0.5 if head == "leyolo" else 1.0
    assert torch.allclose(logits.grad[..., present], gain * logits.detach()[..., present].sigmoid(), rtol=1e-12)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("head", "name"), COMBINATIONS)
def test_shares_of_two_processes_add_up(head: str, name: str) -> None:
    """What two processes with half the batch each compute sums up to the loss of the whole batch."""
    logits, targets, points = _case(head, [3, 5, 0, 2])
    whole = _loss(head)(logits, targets, points, assigner=name)
    halves = [slice(0, 2), slice(2, 4)]
    seen: list[Tensor] = []

    def part(rows: slice, across: Callable[[Tensor], Tensor]) -> Losses:
        mine = Targets(*(t[rows] for t in (targets.boxes, targets.labels, targets.counts, targets.index)))
        return _loss(head)(logits[rows], mine, points, assigner=name, across=across)

    for rows in halves:
        part(rows, lambda value: (seen.append(value), value)[1])
    shares = [part(rows, lambda value: sum(seen)) for rows in halves]
    assert sum(s.total.item() for s in shares) == pytest.approx(whole.total.item(), rel=1e-6)
    assert sum(s.parts for s in shares).tolist() == pytest.approx(whole.parts.tolist(), rel=1e-6)


def test_distribution_focal_loss_is_least_at_the_target() -> None:
    sides = torch.tensor([[0.0, 3.25, 14.99, 7.5]], dtype=torch.float64)
    exact = torch.full((1, 4, REG_MAX), -60.0, dtype=torch.float64)
    for side, value in enumerate(sides[0].tolist()):
        lower = int(value)
        for index, share in ((lower, lower + 1 - value), (lower + 1, value - lower)):
            if share > 0:
                exact[0, side, index] = math.log(share)
    best = distribution_focal_loss(exact.flatten(1), sides)
    entropy = sum(-p * math.log(p) for v in (0.25, 0.99, 0.5) for p in (v, 1 - v)) / 4
    assert float(best) == pytest.approx(entropy, rel=1e-9)
    assert float(distribution_focal_loss(torch.zeros(1, 64, dtype=torch.float64), sides)) == pytest.approx(math.log(16))
    assert torch.allclose(distances(exact.flatten(1)), sides, atol=1e-9)


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits, targets, points = _case("leyolo", [3, 1])
    half = logits.detach().to(torch.bfloat16)
    assert leyolo_loss(half, targets, points).total.dtype == torch.float32
    assert float(leyolo_loss(half, targets, points).total) == float(leyolo_loss(half.float(), targets, points).total)


def test_unknown_assigners() -> None:
    with pytest.raises(UsageError, match=r"tal, simota, ota.*Did you mean 'simota'"):
        check_assigner("simoto", "leyolo")
    with pytest.raises(UsageError, match="simota, ota with the yolox head, got 'tal'"):
        check_assigner("tal", "yolox")
    assert check_assigner(None, "leyolo") == "tal"
    assert check_assigner(None, "yolox") == "simota"


def test_plain_bce_is_what_the_sums_mean() -> None:
    """The closed form of the summed BCE against torch's, on extreme logits."""
    logits, targets, points = _case("yolox", [2])
    with torch.no_grad():
        logits[..., 4] = torch.linspace(-80, 80, logits.shape[1], dtype=torch.float64)
    losses = yolox_loss(logits, targets, points)
    found = assign("simota", logits[..., 5:], logits[..., 4], yolox_boxes(logits[..., :4], *points), targets, points)
    present = (found.gt_index >= 0).double()
    expected = F.binary_cross_entropy_with_logits(logits[..., 4], present, reduction="sum")
    assert losses.parts[1].item() == pytest.approx(expected.item() / max(int(found.num_fg.sum()), 1), rel=1e-9)

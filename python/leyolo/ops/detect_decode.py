"""From the raw outputs of a detection head to candidate boxes, before non-maximum suppression."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from leyolo.ops._library import call, library, register_fake

Candidates = tuple[Tensor, Tensor, Tensor, Tensor]


def _passes(value: Tensor, threshold: float, limit: float) -> Tensor:
    """``value > limit``, where a threshold <= 0 lets everything but NaN pass and one >= 1 nothing."""
    if threshold <= 0:
        return ~value.isnan()
    if threshold >= 1:
        return torch.zeros_like(value, dtype=torch.bool)
    return value > torch.tensor(limit, dtype=torch.float32, device=value.device)


def _select(
    boxes: Tensor, rank: Tensor, passes: Tensor, choice: Tensor, max_candidates: int, multi: bool
) -> Candidates:
    """The K best pairs (anchor, class) by rank, in their own order; ``choice`` ranks the classes of an anchor."""
    batch, anchors, classes = rank.shape
    if not multi:
        largest = choice.masked_fill(choice.isnan(), -math.inf).amax(-1, keepdim=True)
        best = (choice == largest).to(torch.int8).argmax(-1, keepdim=True)
        passes = torch.zeros_like(passes).scatter(-1, best, passes.gather(-1, best))
    k = min(max_candidates, anchors * classes if multi else anchors)
    flat, keep = rank.flatten(1), passes.flatten(1)
    order = flat.masked_fill(~keep, 0).argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, (~keep).gather(1, order).to(torch.int8).argsort(dim=1, stable=True))
    keep = keep & torch.zeros_like(keep).scatter(1, order[:, :k], True)
    index = (~keep).to(torch.int8).argsort(dim=1, stable=True)[:, :k]
    kept = keep.gather(1, index)
    scores, labels = flat.gather(1, index).masked_fill(~kept, 0), (index % classes) * kept
    chosen = boxes.gather(1, (index // classes)[..., None].expand(batch, k, 4))
    return chosen.masked_fill(~kept[..., None], 0), scores, labels, kept.sum(1)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def detect_decode_reference(
    logits: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    reg_max: int = 16,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> Candidates:
    """The same in plain torch; float64 logits are computed in float64."""
    x = _wide(logits)
    bins, classes = x[..., : 4 * reg_max].reshape(*x.shape[:2], 4, reg_max), x[..., 4 * reg_max :]
    distance = (bins.softmax(-1) * torch.arange(reg_max, dtype=x.dtype, device=x.device)).sum(-1)
    distance = distance * strides[:, None]
    boxes = torch.cat([centers - distance[..., :2], centers + distance[..., 2:]], -1)
    limit = math.log(score_threshold) - math.log1p(-score_threshold) if 0 < score_threshold < 1 else 0.0
    passes = _passes(classes, score_threshold, limit)
    boxes, rank, labels, counts = _select(boxes, classes, passes, classes, max_candidates, multi_label)
    live = torch.arange(rank.shape[1], device=x.device) < counts[:, None]
    return boxes, rank.sigmoid() * live, labels, counts


def yolox_decode_reference(
    logits: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> Candidates:
    """The same in plain torch; float64 logits are computed in float64."""
    x = _wide(logits)
    middle = x[..., :2] * strides[:, None] + (centers - 0.5 * strides[:, None])
    size = x[..., 2:4].exp() * strides[:, None]
    boxes = torch.cat([middle - 0.5 * size, middle + 0.5 * size], -1)
    scores = x[..., 4:5].sigmoid() * x[..., 5:].sigmoid()
    passes = _passes(scores, score_threshold, score_threshold)
    return _select(boxes, scores, passes, x[..., 5:], max_candidates, multi_label)


def detect_decode(
    logits: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    reg_max: int = 16,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> Candidates:
    """Candidates of a head with a distribution per box side (Generalized Focal Loss, arXiv 2006.04388).

    A side's distance from the anchor centre, in cells, is the expectation of the softmax over its bins 0..R-1; only the
    boxes of anchors that pass the threshold are computed.

    Args:
        logits: [B, A, 4 * R + C], float32, float16 or bfloat16 (computed in float32): R bins each for left, top, right,
            bottom, then the class logits.
        centers: float32 [A, 2], anchor centres (x, y) in pixels.
        strides: float32 [A], pixels per cell.
        reg_max: R.
        score_threshold: a pair (anchor, class) is a candidate if sigmoid(logit) is greater, decided on the logits. At 0
            or below everything passes, at 1 or above nothing; NaN never.
        max_candidates: at most this many per image, the best ones (the earlier of equals).
        multi_label: every class above the threshold, else only the best class of an anchor.

    Returns:
        boxes float32 [B, K, 4] xyxy in pixels, scores float32 [B, K], labels int64 [B, K], counts int64 [B]: the first
        ``counts[b]`` rows of image b, in the order of (anchor, class), then zeros. K is the smaller of
        ``max_candidates`` and A (with ``multi_label`` A * C).

    Raises:
        ValueError: shapes, dtypes or values that do not fit; the text says what was expected and what came.

    Not differentiable.
    """
    tensors = logits.detach().contiguous(), centers.contiguous(), strides.contiguous()
    out: Candidates = call(library.detect_decode, tensors, reg_max, float(score_threshold), max_candidates, multi_label)
    return out


def yolox_decode(
    logits: Tensor,
    centers: Tensor,
    strides: Tensor,
    *,
    score_threshold: float = 0.25,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> Candidates:
    """Candidates of YOLOX's decoupled head (arXiv 2107.08430).

    ``logits`` [B, A, 5 + C] holds tx, ty, tw, th, the objectness logit and the class logits: the box centre is
    (tx, ty) cells from the cell's upper left corner, its size (e^tw, e^th) cells, a score
    sigmoid(objectness) * sigmoid(class). Everything else is as in :func:`detect_decode`.
    """
    tensors = logits.detach().contiguous(), centers.contiguous(), strides.contiguous()
    out: Candidates = call(library.yolox_decode, tensors, float(score_threshold), max_candidates, multi_label)
    return out


def _fake(logits: Tensor, box_channels: int, max_candidates: int, multi_label: bool) -> Candidates:
    batch, anchors, channels = logits.shape
    k = min(max_candidates, anchors * (channels - box_channels) if multi_label else anchors)
    return (
        logits.new_empty(batch, k, 4, dtype=torch.float32),
        logits.new_empty(batch, k, dtype=torch.float32),
        logits.new_empty(batch, k, dtype=torch.int64),
        logits.new_empty(batch, dtype=torch.int64),
    )


@register_fake("detect_decode")
def _(
    logits: Tensor,
    centers: Tensor,
    strides: Tensor,
    reg_max: int,
    score_threshold: float,
    max_candidates: int,
    multi_label: bool,
) -> Candidates:
    return _fake(logits, 4 * reg_max, max_candidates, multi_label)


@register_fake("yolox_decode")
def _(
    logits: Tensor, centers: Tensor, strides: Tensor, score_threshold: float, max_candidates: int, multi_label: bool
) -> Candidates:
    return _fake(logits, 5, max_candidates, multi_label)

"""Decoding of YOLOX's head in numpy: box = centre offset and log size, score = objectness x class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def _sigmoid(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)  # no overflow at either end


def decode(
    logits: NDArray[np.float32],
    centers: NDArray[np.float32],
    strides: NDArray[np.float32],
    *,
    score_threshold: float,
    max_candidates: int = 30000,
    multi_label: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """``[B, A, 4 + 1 + C]`` -> boxes ``[B, K, 4]`` xyxy in input pixels, scores, labels ``[B, K]``, counts ``[B]``.

    The head's offsets are relative to a cell's top left corner, in strides; ``centers`` are cell centres in pixels.
    """
    per_class = _sigmoid(logits[..., 5:]) * _sigmoid(logits[..., 4:5])
    batch, _, classes = per_class.shape
    if multi_label:
        scores, labels = per_class.reshape(batch, -1), np.broadcast_to(np.arange(classes), per_class.shape)
        labels = labels.reshape(batch, -1)
    else:
        scores, labels = per_class.max(-1, initial=0), per_class.argmax(-1)
    counts = np.minimum((scores > score_threshold).sum(1), max_candidates)
    best = np.argsort(-scores, axis=1, kind="stable")[:, : int(counts.max(initial=0))]
    rows = np.arange(batch)[:, None]
    anchor = best // classes if multi_label else best
    reg = logits[rows, anchor, :4]
    stride = strides[anchor][..., None]
    middle = (reg[..., :2] - 0.5) * stride + centers[anchor]
    half = np.exp(reg[..., 2:]) * stride / 2
    boxes = np.concatenate([middle - half, middle + half], -1).astype(np.float32)
    return boxes, scores[rows, best], labels[rows, best].astype(np.int64), counts.astype(np.int64)

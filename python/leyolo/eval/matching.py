"""Detections beside the objects of their picture: VOC's average precision, and what is taken for what. Numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leyolo.data.dataset import Dataset
from leyolo.eval.detections import Detections

IOU = 0.5
CONFIDENCE = 0.25


def voc_average_precision(dataset: Dataset, detections: Detections) -> NDArray[np.float64]:
    """Pascal VOC's AP at IoU 0.5 of every class, float64 [C]; NaN where there is no object to find.

    As in the VOC development kit (Everingham et al. 2010): a detection belongs to the object that it overlaps most; the
    best-scored one of an object is right, others are wrong; difficult objects (and crowds) and their detections do not
    count; the area under the curve after 2010, without sampling. IoU of continuous boxes, where the kit adds a pixel.
    """
    ignored = dataset.difficult | dataset.crowd
    nearest, overlap = _nearest(dataset, detections)
    order = np.argsort(-detections.scores, kind="stable")
    found = []
    for label in range(len(dataset.names)):
        objects = int(((dataset.labels == label) & ~ignored).sum())
        rows = order[detections.labels[order] == label]
        target = np.where(overlap[rows] >= IOU, nearest[rows], -1)
        counted = ~np.append(ignored, False)[target]  # -1, no object, is the last
        found.append(_area(_first(target[counted]), objects) if objects else np.nan)
    return np.array(found, np.float64)


def _nearest(dataset: Dataset, detections: Detections) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For every detection the row of the object of its class that it overlaps most (-1: there is none), and the IoU."""
    nearest, overlap = np.full(len(detections), -1, np.int64), np.zeros(len(detections))
    limits = np.searchsorted(detections.picture, np.arange(len(dataset) + 1))
    for picture in range(len(dataset)):
        rows, found = dataset.rows(picture), slice(limits[picture], limits[picture + 1])
        if rows.start == rows.stop or found.start == found.stop:
            continue
        ious = pairwise_iou(detections.boxes[found], dataset.annotated[rows])
        ious[detections.labels[found][:, None] != dataset.labels[rows]] = -1
        best = ious.argmax(1)
        values = ious[np.arange(len(ious)), best]
        nearest[found] = np.where(values >= 0, rows.start + best, -1)
        overlap[found] = np.maximum(values, 0)
    return nearest, overlap


def _first(target: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which entries are the first of their value; -1 never is."""
    first = np.zeros(len(target), np.bool_)
    first[np.unique(target, return_index=True)[1]] = True
    return first & (target >= 0)


def _area(right: NDArray[np.bool_], objects: int) -> float:
    """Under the precision-recall curve, precision made monotonous."""
    hits = np.cumsum(right)
    recall = np.concatenate([[0.0], hits / objects])
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * envelope).sum())


def pairwise_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU float64 [n, m] of boxes x, y, width, height [n, 4] and [m, 4]; 0 where neither has an area."""
    ends1, ends2 = first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:]
    sides = np.minimum(ends1[:, None], ends2) - np.maximum(first[:, None, :2], second[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=2)
    union = np.prod(first[:, 2:], axis=1)[:, None] + np.prod(second[:, 2:], axis=1) - common
    ious: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ious


def confusion_matrix(
    dataset: Dataset, detections: Detections, *, confidence: float = CONFIDENCE, iou: float = IOU
) -> NDArray[np.int64]:
    """What is taken for what: int64 [C + 1, C + 1], rows the truth, columns the detector's word.

    The last row counts detections where nothing is, the last column objects that were missed. In each picture the pair
    with the largest IoU is matched first, whatever its classes; detections below ``confidence``, pairs below ``iou``
    and crowds and difficult objects are left out, with the detections that lie on those.
    """
    size = len(dataset.names)
    matrix = np.zeros((size + 1, size + 1), np.int64)
    limits = np.searchsorted(detections.picture, np.arange(len(dataset) + 1))
    ignored = dataset.difficult | dataset.crowd
    for picture in range(len(dataset)):
        rows = np.arange(dataset.offsets[picture], dataset.offsets[picture + 1])
        found = np.arange(limits[picture], limits[picture + 1])
        found = found[detections.scores[found] >= confidence]
        ious = pairwise_iou(detections.boxes[found], dataset.annotated[rows])
        truth = np.full(len(found), size)  # of each detection
        missed = ~ignored[rows]
        for at, row in _pairs(ious, iou):
            truth[at] = dataset.labels[rows[row]] if missed[row] else -1
            missed[row] = False
        truth[(truth == size) & (ious[:, ignored[rows]] >= iou).any(axis=1)] = -1
        np.add.at(matrix, (truth[truth >= 0], detections.labels[found][truth >= 0]), 1)
        np.add.at(matrix[:, size], dataset.labels[rows[missed]], 1)
    return matrix


def _pairs(ious: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Row and column of the largest value, of the largest in the other rows and columns, and so on."""
    candidates = np.argwhere(ious >= least)
    values = ious[candidates[:, 0], candidates[:, 1]]
    rows: set[int] = set()
    columns: set[int] = set()
    pairs = []
    for row, column in candidates[np.argsort(-values, kind="stable")].tolist():
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return pairs

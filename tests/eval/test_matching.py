"""VOC's average precision and the confusion matrix, against plain loops and known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leyolo.data.dataset import PER_BOX, Dataset, ImageRecord
from leyolo.eval.detections import Detections
from leyolo.eval.matching import confusion_matrix, pairwise_iou, voc_average_precision

Objects = list[tuple[int, int, tuple[float, ...]]]
"""Picture, label, box xywh, in the order of pictures."""


def dataset(objects: Objects, images: int, classes: int, **flags: Any) -> Dataset:
    count = len(objects)
    arrays: dict[str, Any] = {
        key: np.zeros((count, 4) if key == "boxes" else count, dtype) for key, dtype in PER_BOX.items()
    }
    arrays["annotated"] = np.array([box for _, _, box in objects], np.float64).reshape(-1, 4)
    arrays["labels"] = np.array([label for _, label, _ in objects], np.int64)
    arrays |= {key: np.array(value, bool) for key, value in flags.items()}
    counts = np.bincount([picture for picture, _, _ in objects], minlength=images)
    return Dataset(
        tuple(ImageRecord(Path(str(n)), n, 100, 100, str(n)) for n in range(images)),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **arrays,
        names=tuple(f"c{n}" for n in range(classes)),
        categories=tuple(range(classes)),
    )


def detections(*rows: tuple[int, int, float, tuple[float, ...]]) -> Detections:
    """``rows``: picture, label, score, box xywh."""
    ordered = sorted(rows, key=lambda row: row[0])
    return Detections(
        np.array([row[0] for row in ordered], np.int64),
        np.array([row[3] for row in ordered], np.float64).reshape(-1, 4),
        np.array([row[2] for row in ordered], np.float64),
        np.array([row[1] for row in ordered], np.int64),
    )


A, B = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 20.0, 20.0)


def test_iou() -> None:
    first = np.array([A, B, (5, 0, 10, 10), (0, 0, 0, 0)], float)
    ious = pairwise_iou(first, np.array([A, (0, 0, 0, 0)], float))
    assert ious == pytest.approx(np.array([[1, 0], [0, 0], [1 / 3, 0], [0, 0]]))
    assert pairwise_iou(first[:0], first).shape == (0, 4)


def test_average_precision_by_hand() -> None:
    truth = dataset([(0, 0, A), (0, 0, B), (1, 0, A)], images=2, classes=2)
    found = detections((0, 0, 0.9, A), (0, 0, 0.8, A), (0, 0, 0.7, B), (1, 0, 0.6, B), (1, 0, 0.5, A))
    # Right, twice, right, wrong, right: precisions 1, 2/3, 3/5 at recalls 1/3, 2/3, 1.
    assert voc_average_precision(truth, found) == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3, np.nan], nan_ok=True)


def test_difficult_objects_do_not_count() -> None:
    truth = dataset([(0, 0, A), (0, 0, B)], images=1, classes=1, difficult=[False, True])
    for rows in ([(0, 0, 0.5, A)], [(0, 0, 0.9, B), (0, 0, 0.8, B), (0, 0, 0.5, A)]):
        assert voc_average_precision(truth, detections(*rows)) == pytest.approx([1.0])
    only = dataset([(0, 0, A)], images=1, classes=1, difficult=[True])
    assert np.isnan(voc_average_precision(only, detections((0, 0, 0.5, A)))).all()


def test_the_object_that_is_overlapped_most_is_the_one() -> None:
    """Not the next best one that is still free: that is COCO's rule, not VOC's."""
    near = (2.0, 0.0, 10.0, 10.0)
    truth = dataset([(0, 0, A), (0, 0, near)], images=1, classes=1)
    found = detections((0, 0, 0.9, A), (0, 0, 0.8, (0.1, 0.0, 10.0, 10.0)))
    assert voc_average_precision(truth, found) == pytest.approx([0.5])


def _by_loops(truth: Dataset, found: Detections, label: int) -> float:
    """The development kit's procedure, written out."""
    taken: set[int] = set()
    hits: list[bool] = []
    ignored = truth.difficult | truth.crowd
    for at in sorted(np.flatnonzero(found.labels == label), key=lambda at: (-found.scores[at], at)):
        best, overlap = -1, 0.0
        rows = truth.rows(int(found.picture[at]))
        for row in range(rows.start, rows.stop):
            if truth.labels[row] == label:
                (iou,) = pairwise_iou(found.boxes[[at]], truth.annotated[[row]])[0]
                if iou > overlap:
                    best, overlap = row, iou
        if best >= 0 and overlap >= 0.5:
            if ignored[best]:
                continue
            hits.append(best not in taken)
            taken.add(best)
        else:
            hits.append(False)
    total = int(((truth.labels == label) & ~ignored).sum())
    if not total:
        return float("nan")
    area = 0.0
    for at, hit in enumerate(hits):
        if hit:
            area += max(sum(hits[: k + 1]) / (k + 1) for k in range(at, len(hits))) / total
    return area


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_against_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects = sorted((int(rng.integers(5)), int(rng.integers(3)), tuple(rng.uniform(5, 50, 4))) for _ in range(40))
    truth = dataset(objects, images=5, classes=4, difficult=rng.random(40) < 0.2, crowd=rng.random(40) < 0.1)
    rows = []
    for _ in range(150):
        picture, label, box = objects[int(rng.integers(40))]
        label = label if rng.random() < 0.8 else int(rng.integers(3))
        rows.append((picture, label, round(float(rng.random()), 2), tuple(box + rng.normal(0, 4, 4))))
    found = detections(*rows)
    expected = [_by_loops(truth, found, label) for label in range(4)]
    assert 0.1 < np.nanmean(expected) < 0.9
    assert voc_average_precision(truth, found) == pytest.approx(expected, nan_ok=True)


def test_confusion() -> None:
    truth = dataset([(0, 0, A), (0, 1, B), (1, 0, A)], images=2, classes=2)
    found = detections(
        (0, 0, 0.9, A),  # right
        (0, 0, 0.8, A),  # again: nothing is left there
        (0, 0, 0.8, B),  # taken for the other
        (1, 1, 0.9, B),  # nothing there
        (1, 0, 0.1, A),  # below the confidence: the object is missed
    )
    assert confusion_matrix(truth, found).tolist() == [[1, 0, 1], [1, 0, 0], [1, 1, 0]]


def test_confusion_leaves_out_what_does_not_count() -> None:
    truth = dataset([(0, 0, A), (0, 1, B)], images=1, classes=2, difficult=[True, False], crowd=[False, True])
    assert confusion_matrix(truth, detections((0, 0, 0.9, A), (0, 0, 0.9, A), (0, 1, 0.9, B))).sum() == 0
    assert confusion_matrix(truth, detections()).sum() == 0

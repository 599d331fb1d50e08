"""What a detector found on a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from leyolo.data.dataset import Dataset


class Boxes(Protocol):
    @property
    def xyxy(self) -> Any: ...
    @property
    def conf(self) -> Any: ...
    @property
    def cls(self) -> Any: ...


class Result(Protocol):
    """What is needed of a prediction: ``leyolo.predict.results.Results`` has it."""

    @property
    def boxes(self) -> Boxes: ...


@dataclass(frozen=True)
class Detections:
    """k boxes of all pictures.

    picture   int64 [k], positions in the dataset, not descending
    boxes     float64 [k, 4], x, y, width, height in pixels of the picture, to 3 decimals
    scores    float64 [k], to 5 decimals
    labels    int64 [k], positions in the dataset's names

    Numbers are rounded before they are scored, so that a saved file scores the same.
    """

    picture: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def coco_rows(self, dataset: Dataset) -> list[dict[str, Any]]:
        """COCO's result format, with the ids of the user's file."""
        images, categories = [image.id for image in dataset.images], dataset.categories
        return [
            {"image_id": images[picture], "category_id": categories[label], "bbox": box, "score": score}
            for picture, label, box, score in self.rows()
        ]

    def rows(self) -> Iterator[tuple[int, int, list[float], float]]:
        """Picture, label, box and score of every detection."""
        columns = (self.picture, self.labels, self.boxes, self.scores)
        yield from zip(*(column.tolist() for column in columns), strict=True)


class Collector:
    """Gathers detections picture by picture.

    Args:
        labels: class index of the model -> label of the dataset; others are left out.
    """

    def __init__(self, labels: Mapping[int, int]) -> None:
        self._labels = np.full(max(labels, default=0) + 1, -1, np.int64)
        for index, label in labels.items():
            self._labels[index] = label
        self._rows: list[NDArray[np.float64]] = [np.empty((0, 7))]

    def add(self, picture: int, result: Result) -> bool:
        """Adds the boxes of a picture. Those with a number that is not finite are left out, since they would upset the
        order of all others: False where there were any."""
        corners, scores, classes = (
            np.asarray(values, np.float64) for values in (result.boxes.xyxy, result.boxes.conf, result.boxes.cls)
        )
        rows = np.column_stack([corners.reshape(-1, 4), scores.reshape(-1), classes.reshape(-1)])
        finite = np.isfinite(rows).all(axis=1)
        rows = rows[finite & (np.nan_to_num(rows[:, 5], nan=-1.0) >= 0) & (rows[:, 5] < len(self._labels))]
        labels = self._labels[rows[:, 5].astype(np.int64)]
        boxes = np.round(np.column_stack([rows[:, :2], rows[:, 2:4] - rows[:, :2]]), 3)
        whole = np.column_stack([np.full(len(rows), picture), labels, boxes, np.round(rows[:, 4], 5)])
        self._rows.append(whole[labels >= 0])
        return bool(finite.all())

    def detections(self) -> Detections:
        rows = np.concatenate(self._rows)
        return Detections(rows[:, 0].astype(np.int64), rows[:, 2:6], rows[:, 6], rows[:, 1].astype(np.int64))

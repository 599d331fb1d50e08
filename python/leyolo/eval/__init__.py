"""Evaluation on COCO annotations. Torch is not imported here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from leyolo.eval.dataset import CocoData, DataError, class_map, read_coco
from leyolo.eval.metrics import Metrics, require_engine, score

__all__ = ["CocoData", "DataError", "Metrics", "class_map", "coco_rows", "read_coco", "score", "validate"]


class _Boxes(Protocol):
    @property
    def xyxy(self) -> Any: ...
    @property
    def conf(self) -> Any: ...
    @property
    def cls(self) -> Any: ...


class _Result(Protocol):
    @property
    def boxes(self) -> _Boxes: ...


_NOTHING: Any = SimpleNamespace(boxes=SimpleNamespace(xyxy=(), conf=(), cls=()))


def coco_rows(result: _Result, image_id: Any, classes: Mapping[int, Any]) -> list[dict[str, Any]]:
    """One image's detections as COCO rows, of the mapped classes: boxes x, y, w, h to 3 decimals, scores to 5.

    Rows with a number that is not finite are left out: they would upset the order of all others.
    """
    rows = []
    for (x1, y1, x2, y2), confidence, label in zip(result.boxes.xyxy, result.boxes.conf, result.boxes.cls, strict=True):
        box, score = [round(float(v), 3) for v in (x1, y1, x2 - x1, y2 - y1)], round(float(confidence), 5)
        if all(math.isfinite(v) for v in (*box, score, label)) and int(label) in classes:
            rows.append({"image_id": image_id, "category_id": classes[int(label)], "bbox": box, "score": score})
    return rows


def validate(
    predict: Callable[[list[Path]], Iterable[_Result | None]],
    names: Mapping[int, str],
    data: str | Path,
    *,
    images: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Metrics, list[dict[str, Any]]]:
    """Scores a detector on a COCO json.

    Args:
        predict: gives one result (``.boxes.xyxy``, ``.conf``, ``.cls``) for each path, in order; None where a picture
            cannot be read: it is reported, and its objects count as missed.
        names: the detector's class names; matched with the dataset's categories by name.
        data: the COCO json.
        images: folder of the image files; None: the folder of the json.
        progress: called with (done, total) after every image.

    Returns:
        The metrics, and the detections as COCO rows with the ids of the user's file.
    """
    require_engine()
    dataset = read_coco(data, images)
    classes = class_map(names, dataset.content["categories"])
    rows: list[dict[str, Any]] = []
    total = len(dataset.images)
    results = predict([dataset.path(image) for image in dataset.images])
    for done, (image, result) in enumerate(zip(dataset.images, results, strict=True), 1):
        if result is None:
            dataset.problems.append(f"image {image['file_name']}: cannot be read, its objects count as missed")
            result = _NOTHING
        rows += coco_rows(result, image["id"], classes)
        if not all(math.isfinite(v) for box in (*result.boxes.xyxy, result.boxes.conf) for v in box):
            dataset.problems.append(f"image {image['file_name']}: detections that are no numbers")
        if progress:
            progress(done, total)
    return score(dataset, rows), rows

"""The twelve COCO numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leyolo.errors import MissingDependencyError
from leyolo.eval.dataset import CocoData

_LINES = (
    ("map", "AP  at IoU 0.50:0.95, all areas, 100 detections"),
    ("map50", "AP  at IoU 0.50"),
    ("map75", "AP  at IoU 0.75"),
    ("map_small", "AP  of small objects (below 32² px)"),
    ("map_medium", "AP  of medium objects (32² to 96² px)"),
    ("map_large", "AP  of large objects (above 96² px)"),
    ("mar_1", "AR  with 1 detection an image"),
    ("mar_10", "AR  with 10 detections an image"),
    ("mar_100", "AR  with 100 detections an image"),
    ("mar_small", "AR  of small objects"),
    ("mar_medium", "AR  of medium objects"),
    ("mar_large", "AR  of large objects"),
)


@dataclass(frozen=True)
class Metrics:
    """COCO's averages over classes (Lin et al. 2014), as pycocotools computes them; NaN where the data has no such
    object.

    per_class    class name -> AP at IoU 0.50:0.95
    images       how many were evaluated
    detections   how many were scored
    problems     what the annotations had wrong, a line each
    """

    map: float
    map50: float
    map75: float
    map_small: float
    map_medium: float
    map_large: float
    mar_1: float
    mar_10: float
    mar_100: float
    mar_small: float
    mar_medium: float
    mar_large: float
    per_class: dict[str, float]
    images: int
    detections: int
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For json: NaN becomes None."""
        numbers = {name: _json(getattr(self, name)) for name, _ in _LINES}
        per_class = {name: _json(value) for name, value in self.per_class.items()}
        return {**numbers, "per_class": per_class, "images": self.images, "detections": self.detections}

    def __str__(self) -> str:
        return "\n".join(f"{text:<50} {getattr(self, name):7.4f}" for name, text in _LINES)


def _json(value: float) -> float | None:
    return None if np.isnan(value) else value


def require_engine() -> None:
    """MissingDependencyError where pycocotools is not there: to be asked before work that would be lost."""
    try:
        import pycocotools.coco
        import pycocotools.cocoeval  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("evaluation needs pycocotools\npip install 'leyolo[val]'") from error


def score(data: CocoData, detections: Sequence[dict[str, Any]]) -> Metrics:
    """COCO's evaluation of detections ``{"image_id", "category_id", "bbox" [x, y, w, h], "score"}``.

    Raises:
        MissingDependencyError: pycocotools is not there; the text says how to install it.
    """
    require_engine()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, categories = ({row["id"]: n for n, row in enumerate(data.content[key])} for key in ("images", "categories"))

    def numbered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """With numbers for the ids of the file: pycocotools sorts them, and text beside integers has no order."""
        return [
            {**row, "image_id": images[row["image_id"]], "category_id": categories[row["category_id"]]} for row in rows
        ]

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = {
            "images": [{"id": n} for n in images.values()],
            "categories": [{"id": n} for n in categories.values()],
            "annotations": numbered(data.content["annotations"]),
        }
        truth.createIndex()
        if detections:
            found = truth.loadRes(numbered(detections))
        else:
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    numbers = [float("nan") if value < 0 else float(value) for value in run.stats]
    precision = run.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all areas, 100 detections
    names = [category["name"] for category in data.content["categories"]]
    per_class = {}
    for index, category in enumerate(run.params.catIds):
        values = precision[:, :, index]
        values = values[values > -1]
        per_class[names[category]] = float(values.mean()) if values.size else float("nan")
    fields = dict(zip((name for name, _ in _LINES), numbers, strict=True))
    return Metrics(
        **fields,
        per_class=per_class,
        images=len(data.images),
        detections=len(detections),
        problems=tuple(data.problems),
    )

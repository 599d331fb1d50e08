"""The figures of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo.data.dataset import Dataset
from leyolo.eval.coco import NUMBERS, coco_numbers
from leyolo.eval.detections import Detections
from leyolo.eval.matching import voc_average_precision


@dataclass(frozen=True)
class Metrics:
    """COCO's averages over classes, as pycocotools computes them, and VOC's; NaN where the data has no such object.

    per_class     class name -> AP at IoU 0.50:0.95; per_class50: at 0.50
    voc_ap50      Pascal VOC's mean AP at IoU 0.5, without difficult objects
    images        how many were evaluated; objects: how many there were to find; detections: how many were scored
    padding       "square" or "rect": how pictures were brought to the size of the network, which changes the scores
    speed         mean milliseconds a picture took, by stage
    problems      what the annotations had wrong, a line each
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
    per_class50: dict[str, float]
    voc_ap50: float
    images: int
    objects: int
    detections: int
    padding: str = "square"
    speed: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For json: NaN becomes None."""
        numbers = {name: _json(getattr(self, name)) for name, _ in NUMBERS}
        classes = {key: {n: _json(v) for n, v in getattr(self, key).items()} for key in ("per_class", "per_class50")}
        rest = {key: getattr(self, key) for key in ("images", "objects", "detections", "padding", "speed")}
        return {**numbers, **classes, "voc_ap50": _json(self.voc_ap50), **rest}

    def __str__(self) -> str:
        lines = [(text, getattr(self, name)) for name, text in NUMBERS]
        lines.append(("AP  at IoU 0.50, Pascal VOC's, without difficult ones", self.voc_ap50))
        return "\n".join(f"{text:<53} {value:7.4f}" for text, value in lines)


def score(
    dataset: Dataset,
    detections: Detections,
    *,
    padding: str = "square",
    speed: dict[str, float] | None = None,
    problems: Sequence[str] = (),
) -> tuple[Metrics, NDArray[np.float64]]:
    """Scores detections.

    Args:
        problems: lines of the run, behind those of the dataset.

    Returns:
        The metrics, and the precision of every class as :func:`leyolo.eval.coco.coco_numbers` has it.

    Raises:
        MissingDependencyError: faster-coco-eval is not there; the text says how to install it.
    """
    numbers, precision = coco_numbers(dataset, detections)
    per_class = dict(zip(dataset.names, _means(precision), strict=True))
    per_class50 = dict(zip(dataset.names, _means(precision[:1]), strict=True))
    voc = voc_average_precision(dataset, detections)
    metrics = Metrics(
        **numbers,
        per_class=per_class,
        per_class50=per_class50,
        voc_ap50=float(np.nanmean(voc)) if np.isfinite(voc).any() else math.nan,
        images=len(dataset),
        objects=int((~dataset.crowd).sum()),
        detections=len(detections),
        padding=padding,
        speed=dict(speed or {}),
        problems=(*map(str, dataset.problems), *problems),
    )
    return metrics, precision


def _means(precision: NDArray[np.float64]) -> list[float]:
    """Over thresholds and recalls, of every class."""
    return [float(values.mean()) for values in np.moveaxis(precision, 2, 0)]


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value

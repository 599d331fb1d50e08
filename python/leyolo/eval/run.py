"""A detector on a dataset: predictions to figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo.data.dataset import Dataset
from leyolo.eval.classes import class_map, some
from leyolo.eval.coco import require_engine
from leyolo.eval.detections import Collector, Detections, Result
from leyolo.eval.metrics import Metrics, score

_NOTHING: Any = SimpleNamespace(boxes=SimpleNamespace(xyxy=(), conf=(), cls=()))


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation leaves.

    precision    float64 [10, 101, C] at the IoU thresholds 0.50 … 0.95 and recalls 0.00 … 1.00 of every class
    """

    dataset: Dataset
    detections: Detections
    metrics: Metrics
    precision: NDArray[np.float64]


def validate(
    predict: Callable[[list[Path]], Iterable[Result | None]],
    names: Mapping[int, str],
    dataset: Dataset,
    *,
    padding: str = "square",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores a detector.

    Args:
        predict: gives one result (``.boxes.xyxy``, ``.conf``, ``.cls``, perhaps ``.speed``) for each path, in order;
            None where a picture cannot be read: it is reported, and its objects count as missed.
        names: the detector's class names; matched with the dataset's by name.
        padding: how ``predict`` pads, "square" or "rect": noted beside the score.
        progress: called with (done, total) after every picture.
    """
    require_engine()
    classes = class_map(names, dataset.names)
    collector = Collector(classes)
    problems = _unknown(dataset, set(classes.values()))
    stages: dict[str, list[float]] = defaultdict(list)
    total = len(dataset)
    results = predict([image.path for image in dataset.images])
    for at, (image, result) in enumerate(zip(dataset.images, results, strict=True)):
        if result is None:
            objects = int((~dataset.crowd[dataset.rows(at)]).sum())
            problems.append(f"{image.name}: cannot be read, its {objects} objects count as missed")
        if not collector.add(at, result or _NOTHING):
            problems.append(f"{image.name}: detections that are no numbers")
        for stage, milliseconds in getattr(result, "speed", {}).items():
            stages[stage].append(float(milliseconds))
        if progress:
            progress(at + 1, total)
    speed = {stage: float(np.mean(values)) for stage, values in stages.items()}
    detections = collector.detections()
    metrics, precision = score(dataset, detections, padding=padding, speed=speed, problems=problems)
    return Evaluation(dataset, detections, metrics, precision)


def _unknown(dataset: Dataset, known: set[int]) -> list[str]:
    """A line where the data has objects of classes that the detector cannot find: each counts as one with AP 0."""
    there = np.bincount(dataset.labels[~dataset.crowd], minlength=len(dataset.names))
    unknown = [name for label, name in enumerate(dataset.names) if there[label] and label not in known]
    if not unknown:
        return []
    return [f"classes that the model does not know, whose AP counts as 0: {some(unknown)}"]

"""COCO's evaluation (Lin et al. 2014), by faster-coco-eval: pycocotools' numbers in a fraction of the time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo.data.dataset import Dataset
from leyolo.errors import MissingDependencyError
from leyolo.eval.detections import Detections

NUMBERS = (
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
"""COCO's twelve, in its order, and what each says."""


def require_engine() -> None:
    """MissingDependencyError where the engine is not there: to be asked before work that would be lost."""
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("evaluation needs faster-coco-eval\npip install 'leyolo[val]'") from error


def coco_numbers(dataset: Dataset, detections: Detections) -> tuple[dict[str, float], NDArray[np.float64]]:
    """COCO's numbers.

    Boxes count as the user's file has them, not clipped; crowds neither count as found nor as missed.

    Returns:
        The twelve by name, NaN where the data has no such object; and the precision float64 [10, 101, C] at the IoU
        thresholds 0.50 … 0.95 and recalls 0.00 … 1.00 of every class, NaN where it has no object.

    Raises:
        MissingDependencyError: faster-coco-eval is not there; the text says how to install it.
    """
    require_engine()
    from faster_coco_eval import COCO, COCOeval_faster

    images, categories = ([{"id": at} for at in range(len(every))] for every in (dataset.images, dataset.names))
    truth, found = (
        COCO({"images": images, "categories": categories, "annotations": rows})
        for rows in (_annotations(dataset), _results(detections))
    )
    run = COCOeval_faster(truth, found, "bbox", print_function=_silent)
    run.params.imgIds, run.params.catIds = list(range(len(images))), list(range(len(categories)))
    run.evaluate()
    run.accumulate()
    run.summarize()
    numbers = [float("nan") if value < 0 else float(value) for value in run.stats[: len(NUMBERS)]]
    # IoU, recall, class, area, detections: all areas, 100 detections.
    precision = np.asarray(run.eval["precision"], np.float64)[:, :, :, 0, -1]
    names = (name for name, _ in NUMBERS)
    return dict(zip(names, numbers, strict=True)), np.where(precision < 0, np.nan, precision)


def _annotations(dataset: Dataset) -> list[dict[str, Any]]:
    counts = np.diff(dataset.offsets)
    columns = zip(
        np.repeat(np.arange(len(dataset)), counts).tolist(),
        dataset.labels.tolist(),
        dataset.annotated.tolist(),
        dataset.areas.tolist(),
        dataset.crowd.tolist(),
        strict=True,
    )
    return [
        {"id": at, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for at, (image, label, box, area, crowd) in enumerate(columns, 1)  # an id of 0 would mean "not matched"
    ]


def _results(detections: Detections) -> list[dict[str, Any]]:
    """What ``COCO.loadRes`` makes of results, without the outlines that it adds: they take most of its memory."""
    return [
        {"id": at, "image_id": picture, "category_id": label, "bbox": box, "score": score}
        | {"area": box[2] * box[3], "iscrowd": 0}
        for at, (picture, label, box, score) in enumerate(detections.rows(), 1)
    ]


def _silent(*_: Any) -> None:
    pass

"""mAP of weights in the middle of a run. The pictures are shared among the run's processes."""

from __future__ import annotations

import numpy as np

from leyolo.data.dataset import Dataset
from leyolo.errors import LeYOLOError
from leyolo.eval.coco import coco_numbers
from leyolo.eval.detections import Collector, Detections
from leyolo.predict.backends import engine
from leyolo.predict.pipeline import Pipeline
from leyolo.predict.pipeline import Settings as Detection
from leyolo.predict.run import run
from leyolo.predict.sources import Options, of_file
from leyolo.train.distributed import Group
from leyolo.train.settings import Settings
from leyolo.weights import Checkpoint


def validate(checkpoint: Checkpoint, data: Dataset, settings: Settings, group: Group) -> dict[str, float]:
    """COCO's twelve numbers of a checkpoint, the same on every process.

    On the path of ``leyolo val``, with its thresholds, so that a run reports what its weights will score.
    """
    share = range(len(data) * group.rank // group.world, len(data) * (group.rank + 1) // group.world)
    parts = group.gather(_detections(checkpoint, data, share, settings, group))
    if not group.leads:
        return group.gather(None)[0]  # type: ignore[no-any-return]
    names = ("picture", "boxes", "scores", "labels")
    numbers, _ = coco_numbers(data, Detections(*(np.concatenate([getattr(p, n) for p in parts]) for n in names)))
    return group.gather(numbers)[0]  # type: ignore[no-any-return]


def _detections(checkpoint: Checkpoint, data: Dataset, share: range, settings: Settings, group: Group) -> Detections:
    """Of the pictures at these positions."""
    dtype = "float32" if group.device.type == "cpu" else "float16"
    pipeline = Pipeline(
        engine(checkpoint, str(group.device), dtype),
        num_classes=checkpoint.num_classes,
        strides=checkpoint.strides,
        head=checkpoint.head,
    )
    how = Detection(imgsz=settings.imgsz, conf=0.001, iou=0.7, multi_label=True, rect=settings.rect)
    collector = Collector({index: index for index in range(len(data.names))})
    files = [of_file(data.images[position].path) for position in share]
    for position, result in zip(share, run(pipeline, checkpoint.names, files, how, Options(), _stop), strict=True):
        collector.add(position, result)
    return collector.detections()


def _stop(path: str, error: LeYOLOError) -> None:
    raise type(error)(f"{path}: {error}")
